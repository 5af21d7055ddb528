#!/bin/bash
# stick.sh FOLDER DEB [TARBALL]   everything to install Sterna from a USB stick on a Debian without network
#
# Puts into FOLDER: DEB, mosquitto with its clients, and whatever both need on a machine that has nothing yet, from the package sources of this machine:
# same release, same architecture. Then an index for apt, checksums, and the install.sh to be run from there.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
folder=$1
deb=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
rm -rf "$folder"
mkdir -p "$folder/partial"
folder=$(realpath "$folder")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# With an empty list of installed packages apt fetches all that anybody could lack.
: >"$work/status"
apt-get install -y -qq --download-only --no-install-recommends -o "Dir::State::status=$work/status" -o "Dir::Cache::archives=$folder" -o Debug::NoLocking=1 \
  -o APT::Sandbox::User=root "$deb" mosquitto mosquitto-clients >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "stick.sh: as root, is 'apt-get update' needed?" >&2; exit 1; }
rm -rf "$folder/partial" "$folder/lock"
cp "$deb" ${3:+"$3"} "$folder"
cp "$here/stick-install.sh" "$folder/install.sh"
(cd "$folder" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS)
echo "$folder: $(find "$folder" -name '*.deb' | wc -l) packages, $(du -sh "$folder" | cut -f1)"
echo "To be sure on the other side that it is this stick: sha256sum SHA256SUMS gives"
sha256sum <"$folder/SHA256SUMS" | cut -d' ' -f1
