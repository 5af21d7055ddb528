#!/bin/sh
# install.sh [--prefix DIR] [--no-start] [--uninstall [--purge]]   Sterna from an unpacked tarball, on any Linux with glibc; as root
#
#   --prefix DIR   where program, model and manual go; default /usr/local
#   --no-start     install the service and leave it off
#   --uninstall    take it away again; configuration and journal stay
#   --purge        with --uninstall: those go, too, and jobs that were not answered yet with them
# DESTDIR=DIR in the environment puts everything under DIR instead, for building images; nothing is started then.
# /etc/sterna/config.toml is never overwritten: a newer one is put beside it as config.toml.new.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local
start=yes uninstall= purge=
while [ $# -gt 0 ]; do
  case $1 in
  --prefix) [ $# -gt 1 ] || { echo "install.sh: --prefix needs a folder" >&2; exit 2; }; prefix=${2%/}; shift ;;
  --no-start) start= ;;
  --uninstall) uninstall=yes ;;
  --purge) purge=yes ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] || exit 2; exit 0 ;;
  esac
  shift
done
case $prefix in /*) ;; *) echo "install.sh: --prefix must begin with /" >&2; exit 2 ;; esac
root=${DESTDIR:-}
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || { echo "install.sh: must be run as root" >&2; exit 1; }
[ -z "$root" ] && [ -d /run/systemd/system ] && live=yes || live=
unit=$root/etc/systemd/system/sterna.service

if [ -n "$uninstall" ]; then
  [ -z "$live" ] || systemctl disable --now sterna.service 2>/dev/null || true
  rm -f "$unit" "$root$prefix/bin/sterna" "$root$prefix/share/man/man1/sterna.1.gz" "$root$prefix/share/bash-completion/completions/sterna"
  rm -rf "$root$prefix/share/sterna" "$root$prefix/share/doc/sterna"
  [ -z "$live" ] || systemctl daemon-reload
  if [ -n "$purge" ]; then
    rm -rf "$root/var/lib/sterna" "$root/var/lib/private/sterna" "$root/etc/sterna"
  else
    echo "Removed. Kept: /etc/sterna, /var/lib/sterna"
  fi
  exit 0
fi

# Say what is missing before anything is changed.
if [ -z "$root" ]; then
  # A loader that cannot even load it says so on stderr, and so does a program for another processor.
  if ! missing=$(ldd "$here/usr/bin/sterna" 2>&1) || echo "$missing" | grep -q 'not found'; then
    echo "install.sh: the program does not run here:" >&2
    echo "$missing" | grep -E 'not found|not a dynamic|No such' | sed 's/^[[:space:]]*/  /' >&2
    echo "  Debian, Ubuntu: apt-get install libmosquitto1 libsqlite3-0 libstdc++6; Fedora: dnf install mosquitto sqlite-libs libstdc++" >&2
    echo "  It needs glibc of Debian 12 (2.36) or newer; with musl (Alpine, OpenWrt) it does not run." >&2
    exit 1
  fi
  "$here/usr/bin/sterna" --version >/dev/null || { echo "install.sh: the program does not run here" >&2; exit 1; }
fi

(cd "$here/usr" && find bin share -type f) | while read -r file; do
  mode=644
  case $file in bin/*) mode=755 ;; esac
  mkdir -p "$root$prefix/$(dirname "$file")"
  # Beside it, then renamed: a running program cannot be overwritten, and a half-copied one is never seen.
  install -m $mode "$here/usr/$file" "$root$prefix/$file.new"
  mv "$root$prefix/$file.new" "$root$prefix/$file"
done
mkdir -p "$root/etc/sterna" "$(dirname "$unit")"
sed "s#/usr/share/#$prefix/share/#g" "$here/etc/sterna/config.toml" >"$root/etc/sterna/config.toml.new"
if [ ! -e "$root/etc/sterna/config.toml" ] || cmp -s "$root/etc/sterna/config.toml" "$root/etc/sterna/config.toml.new"; then
  mv "$root/etc/sterna/config.toml.new" "$root/etc/sterna/config.toml"
else
  echo "Kept your /etc/sterna/config.toml; the one of this version is config.toml.new"
fi
sed -e "s#/usr/bin/#$prefix/bin/#g" -e "s#/usr/share/#$prefix/share/#g" "$here/usr/lib/systemd/system/sterna.service" >"$unit"

if [ -z "$live" ]; then
  echo "Installed. There is no systemd running here; to start it: $prefix/bin/sterna run --config /etc/sterna/config.toml"
  exit 0
fi
systemctl daemon-reload
[ -n "$start" ] || { echo "Installed. To start it: systemctl enable --now sterna"; exit 0; }
systemctl enable --quiet sterna.service
systemctl restart sterna.service || { echo "install.sh: the service does not start. See: systemctl status sterna" >&2; exit 1; }
echo "Sterna runs, for a broker on this machine. To change that: /etc/sterna/config.toml"
