#!/bin/bash
# package.sh deb|tarball BINARY FOLDER   a Debian package, or a tarball with install.sh, of the stripped static BINARY; prints its path
#
# The same commit and the same binary give the same bytes: times are the commit's, owners are root, names are sorted.
# SOURCE_DATE_EPOCH overrides the time. Works on any architecture for itself; nothing here cross-compiles.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
kind=$1
binary=$(realpath "$2")
mkdir -p "$3"
folder=$(realpath "$3")
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
export LC_ALL=C TZ=UTC
umask 022

version=$("$binary" --version)
architecture=$(dpkg --print-architecture)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date -d "$(sed -n 's/^ -- .*>  //p' "$here/debian/changelog" | head -1)" +%s)}
read -r _ changed < <(head -1 "$here/debian/changelog" | tr -d '()')
[ "${changed%% *}" = "$version" ] || { echo "package.sh: systemd/debian/changelog begins with ${changed%% *}, the program is $version" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/sterna
put() { install -D -m "$1" "$2" "$tree/$3"; } # MODE FROM TO
squeeze() { gzip -9n <"$1" >"$work/squeezed" && put 644 "$work/squeezed" "$2"; } # FROM TO

put 755 "$binary" usr/bin/sterna
put 644 "$root/Models/pocket.gguf" usr/share/sterna/models/pocket.gguf
put 644 "$here/sterna.service" usr/lib/systemd/system/sterna.service
put 644 "$root/device-config/default.toml" etc/sterna/config.toml
for file in "$root"/docs/*.md "$root"/docs/*.yaml; do
  [ ! -e "$file" ] || put 644 "$file" "usr/share/doc/sterna/$(basename "$file")"
done
put 644 "$root/Models/README.md" usr/share/doc/sterna/pocket.md # names the sources of the model's data, as their licences ask
for file in "$root"/device-config/*.toml "$root"/device-config/mosquitto-sterna.*; do
  put 644 "$file" "usr/share/doc/sterna/examples/$(basename "$file")"
done
sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$(date -d "@$SOURCE_DATE_EPOCH" +%F)/" "$here/sterna.1" >"$work/sterna.1"
squeeze "$work/sterna.1" usr/share/man/man1/sterna.1.gz
"$binary" --generate-completion-script bash | sed '1{/^#!/d}' >"$work/completion"
put 644 "$work/completion" usr/share/bash-completion/completions/sterna
"$here/sbom.py" "$binary" "$root/Models/pocket.gguf" "$version" "$architecture" "$SOURCE_DATE_EPOCH" >"$work/sbom"
put 644 "$work/sbom" usr/share/doc/sterna/sbom.cdx.json

case $kind in
deb)
  squeeze "$here/debian/changelog" usr/share/doc/sterna/changelog.gz
  put 644 "$here/debian/copyright" usr/share/doc/sterna/copyright
  put 644 "$here/debian/lintian-overrides" usr/share/lintian/overrides/sterna # why not all of its complaints are followed
  mkdir "$tree/DEBIAN" "$work/debian"
  # Which versions of shared libraries are needed: dpkg-shlibdeps knows from the symbols that the program uses.
  printf 'Source: sterna\n\nPackage: sterna\nArchitecture: any\n' >"$work/debian/control"
  depends=$(cd "$work" && dpkg-shlibdeps -O "sterna/usr/bin/sterna" 2>"$work/shlibdeps" | sed -n 's/^shlibs:Depends=//p')
  [ -n "$depends" ] || { cat "$work/shlibdeps" >&2; exit 1; }
  sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/$depends/" \
    -e "s/@SIZE@/$(du -k --apparent-size -s "$tree" | cut -f1)/" "$here/debian/control" >"$tree/DEBIAN/control"
  install -m 644 "$here/debian/conffiles" "$tree/DEBIAN/conffiles"
  install -m 755 "$here"/debian/{postinst,prerm,postrm} "$tree/DEBIAN"
  (cd "$tree" && find usr -type f | sort | xargs md5sum >DEBIAN/md5sums)
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  rm -f "$folder"/sterna_*_"$architecture".deb # of other versions: whoever takes what is there takes the right one
  output=$folder/sterna_${version}_$architecture.deb
  # One thread: with more, the bytes depend on how many.
  dpkg-deb --root-owner-group -Zxz -z4 --threads-max=1 --build "$tree" "$output" >/dev/null
  ;;
tarball)
  put 755 "$here/install.sh" install.sh
  put 644 "$root/LICENSE" LICENSE
  name=sterna-$version-linux-$architecture
  mv "$tree" "$work/$name"
  rm -f "$folder"/sterna-*-linux-"$architecture".tar.gz
  output=$folder/$name.tar.gz
  tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu -c "$name" | gzip -9n >"$output"
  ;;
*) echo "package.sh: deb or tarball, not $kind" >&2; exit 2 ;;
esac
echo "$output"
