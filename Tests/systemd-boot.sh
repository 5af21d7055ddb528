#!/bin/bash
# systemd-boot.sh DEB   boots real systemd in a container without network and lives through an operator's year with the package DEB
#
# Installed, answering jobs through mosquitto, reloaded, broken by a mistake in its configuration, killed, frozen until the watchdog comes, out of disk,
# upgraded over an edited configuration, removed and purged: Tests/systemd-boot/checks.sh, which runs inside. Needs root, mmdebstrap and
# systemd-nspawn; where there is no root, no mirror or no right to make containers it says so and ends with 0. The container's system is made once
# (.build/systemd-boot/base, 200 MB) and copied for each run. MIRROR names another Debian mirror.
set -euo pipefail
deb=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
store=$(dirname "$here")/.build/systemd-boot
PATH=$PATH:/usr/sbin
skip() { echo "systemd-boot: skipped: $*"; exit 0; }

[ "$(id -u)" -eq 0 ] || skip "only root can boot a container"
for tool in mmdebstrap systemd-nspawn unshare; do command -v "$tool" >/dev/null || skip "$tool is missing"; done
if [ ! -e "$store/base/.complete" ]; then
  mkdir -p "$store"
  rm -rf "$store/base"
  # A library that the package depends on and this list lacks would have to come from a network that the container does not have.
  mmdebstrap --variant=essential --dpkgopt=force-unsafe-io \
    --include=systemd,systemd-sysv,dbus,mosquitto,mosquitto-clients,libmosquitto1,libsqlite3-0,libstdc++6,libgcc-s1,procps \
    bookworm "$store/base" "${MIRROR:-http://deb.debian.org/debian}" >"$store/mmdebstrap.log" 2>&1 \
    || skip "mmdebstrap failed, is there a mirror? $(tail -1 "$store/mmdebstrap.log")"
  touch "$store/base/.complete"
fi

work=$(mktemp -d "$store/run-XXXXXX")
container=
cleanup() {
  [ -z "$container" ] || kill -KILL -- "-$container" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cp -a "$store/base" "$work/root"
cp "$deb" "$work/root/root/sterna.deb"
# The next version: newer, and with another default configuration.
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+1/' "$work/next/DEBIAN/control"
echo '# A default that changed.' >>"$work/next/etc/sterna/config.toml"
(cd "$work/next" && find usr -type f | sort | xargs md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Znone -b "$work/next" "$work/root/root/sterna-next.deb" >/dev/null
install -m 755 "$here/systemd-boot/checks.sh" "$work/root/root/checks.sh"
cat >"$work/root/etc/systemd/system/checks.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/checks.sh
StandardOutput=file:/root/result
StandardError=inherit
TimeoutStartSec=240
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
ln -s ../checks.service "$work/root/etc/systemd/system/multi-user.target.wants/checks.service"

# systemd-nspawn wants a /run of its own where the host was not booted by systemd.
setsid unshare -m sh -c 'mount --make-rprivate /; mount -t tmpfs tmpfs /run
  exec systemd-nspawn -D "$1" -b --private-network --register=no --keep-unit -M "sterna-boot-$$" --console=pipe' sh "$work/root" \
  </dev/null >"$work/console" 2>&1 &
container=$!
for _ in $(seq 280); do
  kill -0 "$container" 2>/dev/null || break
  sleep 1
done
if ! grep -q . "$work/root/root/result" 2>/dev/null; then
  if grep -qiE 'not permitted|denied|read-only' "$work/console"; then skip "no containers here: $(tail -1 "$work/console")"; fi
  echo "systemd-boot: the container did not come to its checks:" >&2
  cat "$work/console" >&2
  exit 1
fi
cat "$work/root/root/result"
grep -q '^end$' "$work/root/root/result" && ! grep -q '^FAILED' "$work/root/root/result"
