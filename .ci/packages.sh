#!/bin/bash
# packages.sh NAME...   see that Debian packages are installed: install them as root, else say how
set -euo pipefail
if ! command -v swift >/dev/null; then
  echo "sterna: Swift 6.1 or newer is missing: install it from https://www.swift.org/install/linux and put it on PATH" >&2
  exit 1
fi
if ! command -v dpkg-query >/dev/null; then
  echo "sterna: this is not Debian: make sure that you have what these Debian packages hold: $*" >&2
  exit 0
fi
missing=()
for name in "$@"; do
  dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "sterna: packages are missing: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "sterna: installing ${missing[*]}"
# mosquitto's package would start a broker on port 1883 of this machine; ours are private, so keep it from starting.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
