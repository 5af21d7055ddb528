#!/bin/sh
# Builds kernels_bench with clang and runs it with the options given: see kernels_bench.c.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clang -std=gnu17 -O2 -I Sources/CTernary -I Sources/CTernary/include Benchmarks/kernels/kernels_bench.c Sources/CTernary/*.c -lpthread -o "$work/kernels_bench"
"$work/kernels_bench" "$@"
