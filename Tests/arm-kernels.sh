#!/bin/sh
# Builds the kernels for 64-bit ARM, runs them under qemu on processors with and without dot products and matrix products, and
# compares the bits of their results with this machine's, whose kernels also run under the address and undefined behaviour
# sanitizers. Prints a line a check; ends with 1 on failure, 2 where a tool is missing.
set -u
cd "$(dirname "$0")/.."

missing=""
for tool in clang aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v $tool >/dev/null 2>&1 || missing="$missing $tool"
done
[ -e /usr/aarch64-linux-gnu/include/stdlib.h ] || missing="$missing /usr/aarch64-linux-gnu/include"
if [ -n "$missing" ]; then
  echo "missing:$missing"
  echo "do: install clang (it comes with Swift) and the packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
  exit 2
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sources="Sources/CTernary/*.c Tests/arm-kernels/*.c"
options="-std=gnu17 -O2 -Wall -Wextra -Werror -I Sources/CTernary -I Sources/CTernary/include"

mkdir "$work/arm"
for source in $sources; do
  clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include $options -c "$source" \
    -o "$work/arm/$(basename "$source").o" || exit 1
done
aarch64-linux-gnu-gcc -static "$work"/arm/*.o -lpthread -o "$work/check-arm" || exit 1
clang $options $sources -lpthread -o "$work/check-here" || exit 1
clang $options -g -fsanitize=address,undefined -fno-sanitize-recover=all $sources -lpthread -o "$work/check-sanitized" 2>"$work/link" \
  || { cat "$work/link"; exit 1; }

failed=0
run() {  # name, command...
  name=$1; shift
  "$@" >"$work/$name.out" 2>&1; status=$?
  grep -v '^digest' "$work/$name.out" | sed "s/^/$name: /"
  grep '^digest' "$work/$name.out" >"$work/$name.digests"
  if [ $status -ne 0 ]; then
    echo "$name: FAIL, ended with $status"
    failed=1
  fi
}

run here "$work/check-here"
run sanitized "$work/check-sanitized"
for cpu in cortex-a53 cortex-a76 max; do
  run $cpu qemu-aarch64-static -cpu $cpu "$work/check-arm"
  if [ -s "$work/$cpu.digests" ] && cmp -s "$work/here.digests" "$work/$cpu.digests"; then
    echo "$cpu: ok results have the same bits as on $(uname -m)"
  else
    echo "$cpu: FAIL results differ from those on $(uname -m)"
    diff "$work/here.digests" "$work/$cpu.digests"
    failed=1
  fi
done
exit $failed
