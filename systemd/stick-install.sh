#!/bin/sh
# install.sh [--without-broker]   Sterna, from this stick alone, on a Debian without network; as root
#
# What the machine has already is left as it is, and so are its package sources.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
packages="sterna mosquitto mosquitto-clients"
case ${1:-} in
--without-broker) packages=sterna ;;
'') ;;
*) sed -n '2,4s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] || exit 2; exit 0 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "install.sh: must be run as root" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install.sh: this is not Debian: unpack the tarball and run the install.sh inside it" >&2; exit 1; }
(cd "$here" && sha256sum --quiet -c SHA256SUMS) || { echo "install.sh: the stick is damaged or incomplete: copy it again" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
# The checksums above, not a signature, say that the packages are what they were; the list and caches are thrown away afterwards.
echo "deb [trusted=yes] copy:$here ./" >"$work/sources.list"
apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" \
    -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives" -o APT::Sandbox::User=root "$@"
}
apt update
# An edited configuration of before is kept.
# shellcheck disable=SC2086  # a list of names
apt install -y --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $packages
echo "installed: $(dpkg-query -W -f '${Package} ${Version}  ' $packages)"
