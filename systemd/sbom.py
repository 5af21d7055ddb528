#!/usr/bin/env python3
"""sbom.py BINARY MODEL VERSION ARCHITECTURE EPOCH   what a package of Sterna is made of, as CycloneDX 1.5 JSON on stdout

Swift packages come from Package.resolved, which the build has written; what they carry inside comes from the list below; shared libraries from the
program's NEEDED entries, with the Debian packages that they were built against. The same input gives the same bytes.
"""
import hashlib
import json
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent

# Sources that Swift packages vendor: no package manager knows of them, and their flaws are ours. The version is read from the sources where they say it.
VENDORED = {
    "swift-crypto": ("BoringSSL", "Apache-2.0 OR ISC", "hash.txt", r"([0-9a-f]{40})"),
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sha256(path):
    return {"alg": "SHA-256", "content": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def swift_packages():
    """Packages, what they vendor, and the runtime that is linked in."""
    for pin in sorted(json.loads((ROOT / "Package.resolved").read_text())["pins"], key=lambda pin: pin["identity"]):
        name, state = pin["identity"], pin["state"]
        where = re.sub(r"^https?://|\.git$", "", pin["location"])
        version = state.get("version") or state["revision"]
        yield {
            "type": "library", "name": name, "version": version, "purl": f"pkg:swift/{where}@{version}",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "externalReferences": [{"type": "vcs", "url": pin["location"], "comment": f"revision {state['revision']}"}],
        }
        if name in VENDORED:
            inside, license, file, pattern = VENDORED[name]
            found = None
            for path in sorted((ROOT / ".build/static/checkouts").glob("*/**/" + file)):
                if path.relative_to(ROOT / ".build/static/checkouts").parts[0].lower() == name:
                    found = found or re.search(pattern, path.read_text(errors="replace"))
            version = ".".join(found.groups()) if found else "unknown"
            yield {
                "type": "library", "name": inside, "version": version, "description": f"sources inside {name}",
                "purl": f"pkg:generic/{quote(inside.lower())}@{version}", "licenses": [{"expression": license}],
            }
    version = re.search(r"Swift version (\S+)", run("swift", "--version"))[1]
    yield {
        "type": "library", "name": "swift-runtime", "version": version, "purl": f"pkg:generic/swift@{version}",
        "description": "standard library, concurrency and FoundationEssentials, linked statically", "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


def shared_libraries(binary, architecture):
    """Debian packages of the libraries that the program asks the loader for."""
    packages = {}
    paths = dict(re.findall(r"(\S+) => (/\S+)", run("ldd", binary)))
    for library in sorted(re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", binary))):
        if library.startswith("ld-linux"):
            continue
        path = Path(paths[library]).resolve()
        # Packages know their files by the path under which they were unpacked, from before or after /lib became /usr/lib.
        for candidate in (str(path), str(path).replace("/usr/lib/", "/lib/", 1), "/usr" + str(path)):
            owner = subprocess.run(["dpkg-query", "-S", candidate], capture_output=True, text=True).stdout
            if owner:
                packages.setdefault(owner.split(":")[0], []).append(library)
                break
        else:
            sys.exit(f"sbom: no package owns {path}")
    for name, libraries in sorted(packages.items()):
        version = run("dpkg-query", "-W", "-f", "${Version}", f"{name}:{architecture}")
        yield {
            "type": "library", "name": name, "version": version, "description": "shared, not included: " + ", ".join(libraries),
            "purl": f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}&distro=debian-" + debian_release(),
        }


def debian_release():
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_ID="):
            return line.split("=")[1].strip('"')
    return "unknown"


def main(binary, model, version, architecture, epoch):
    program = {
        "type": "application", "bom-ref": "sterna", "name": "sterna", "version": version, "purl": f"pkg:generic/sterna@{version}?arch={architecture}",
        "licenses": [{"license": {"id": "Apache-2.0"}}], "hashes": [sha256(binary)],
    }
    components = list(swift_packages()) + list(shared_libraries(binary, architecture))
    components.append({
        "type": "machine-learning-model", "name": Path(model).name, "version": version, "hashes": [sha256(model)],
        "purl": f"pkg:generic/{Path(model).name}@{version}", "licenses": [{"license": {"id": "Apache-2.0"}}],
    })
    for component in components:
        component["bom-ref"] = component["purl"]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch))), "component": program},
        "components": components,
        "dependencies": [{"ref": "sterna", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    bom["serialNumber"] = "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)))
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
