#!/bin/bash
# package.sh BINARY FOLDER   the packages in FOLDER, made of BINARY: same bytes when made again, lintian, the SBOM, and install.sh into an empty root
set -euo pipefail
binary=$(realpath "$1")
folder=$(realpath "$2")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
architecture=$(dpkg --print-architecture)
deb=$(ls "$folder"/sterna_*_"$architecture".deb)
tarball=$(ls "$folder"/sterna-*-linux-"$architecture".tar.gz)
fail() { echo "package: FAILED: $*" >&2; exit 1; }

# Made again, elsewhere, by somebody with other habits.
(
  umask 077
  export TZ=Asia/Tokyo LANG=C.UTF-8 TMPDIR=$work
  "$root/systemd/package.sh" deb "$binary" "$work/again" >/dev/null
  "$root/systemd/package.sh" tarball "$binary" "$work/again" >/dev/null
)
for file in "$deb" "$tarball"; do cmp "$file" "$work/again/$(basename "$file")" || fail "not the same bytes: $file"; done

# lintian complains about root on stderr, which is not what it is asked.
lintian --fail-on error,warning "$deb" 2>"$work/lintian" || fail "lintian: $(cat "$work/lintian")"

dpkg-deb -x "$deb" "$work/deb"
tar xzf "$tarball" -C "$work"
unpacked=$(echo "$work"/sterna-*)
[ "$(stat -c '%a %U' "$work/deb/etc/sterna/config.toml")" = "644 $(id -un)" ] || fail "the service cannot read its configuration"
dpkg-deb --info "$deb" conffiles | grep -qx /etc/sterna/config.toml || fail "the configuration is no conffile"
cmp "$work/deb/usr/share/doc/sterna/sbom.cdx.json" "$unpacked/usr/share/doc/sterna/sbom.cdx.json" || fail "two SBOMs"
python3 - "$work/deb" "$root/Package.resolved" "$binary" <<'PYTHON' || fail "the SBOM"
import hashlib, json, re, subprocess, sys
tree, resolved, binary = sys.argv[1:]
bom = json.load(open(tree + "/usr/share/doc/sterna/sbom.cdx.json"))
assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.5", 1)
assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bom["metadata"]["timestamp"])
kinds = {"application", "library", "machine-learning-model"}
parts = [bom["metadata"]["component"]] + bom["components"]
known = {"type", "bom-ref", "name", "version", "purl", "licenses", "hashes", "description", "externalReferences"}
for part in parts:
    assert part["type"] in kinds and part["name"] and set(part) <= known, part
    assert part["version"] and part["version"] != "unknown", part
    assert re.fullmatch(r"pkg:(swift|deb|generic)/[A-Za-z0-9._%/-]+@[^@\s]+", part["purl"]), part["purl"]
references = [part["bom-ref"] for part in parts]
assert len(set(references)) == len(references)
for dependency in bom["dependencies"]:
    assert dependency["ref"] in references and set(dependency["dependsOn"]) <= set(references)
digest = lambda path: hashlib.sha256(open(path, "rb").read()).hexdigest()
assert parts[0]["hashes"] == [{"alg": "SHA-256", "content": digest(tree + "/usr/bin/sterna")}]
versions = {part["name"]: part["version"] for part in parts}
for pin in json.load(open(resolved))["pins"]:
    assert versions.get(pin["identity"]) == pin["state"]["version"], pin["identity"]
said = " ".join(part.get("description", "") for part in parts)
for library in re.findall(r"\(NEEDED\).*\[(.+)\]", subprocess.run(["readelf", "-d", binary], capture_output=True, text=True).stdout):
    assert library.startswith("ld-linux") or library in said, library
PYTHON

# install.sh, into an image: installed, over an edited configuration, taken away.
install() { DESTDIR=$work/image "$unpacked/install.sh" "$@" >"$work/said" 2>&1 || fail "install.sh $*: $(cat "$work/said")"; }
image=$work/image
install --prefix /opt/sterna
grep -q '^ExecStart=/opt/sterna/bin/sterna run' "$image/etc/systemd/system/sterna.service" || fail "the unit starts another program"
grep -q '^path = "/opt/sterna/share/sterna/models/pocket.gguf"' "$image/etc/sterna/config.toml" || fail "the configuration names another model"
[ -x "$image/opt/sterna/bin/sterna" ] && [ -s "$image/opt/sterna/share/sterna/models/pocket.gguf" ] || fail "something is not installed"
echo '# mine' >>"$image/etc/sterna/config.toml"
install --prefix /opt/sterna
grep -q '^# mine' "$image/etc/sterna/config.toml" || fail "an edited configuration was overwritten"
[ -s "$image/etc/sterna/config.toml.new" ] || fail "the new configuration is not beside it"
install --prefix /opt/sterna --uninstall
[ -e "$image/etc/sterna/config.toml" ] || fail "the configuration went with the program"
[ -z "$(find "$image/opt" "$image/etc/systemd" -type f)" ] || fail "something is left: $(find "$image/opt" -type f)"
install --prefix /opt/sterna --uninstall --purge
[ ! -e "$image/etc/sterna" ] || fail "the configuration is left"
DESTDIR=$image "$unpacked/install.sh" --prefix relative >/dev/null 2>&1 && fail "a relative prefix is taken"
echo "package: $(basename "$deb") $(stat -c %s "$deb") bytes, $(basename "$tarball") $(stat -c %s "$tarball") bytes: same bytes twice, lintian, SBOM, install.sh"
