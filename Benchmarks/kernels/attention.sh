#!/bin/sh
# Builds attention_bench with clang and runs it with the options given: see attention_bench.c.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clang -std=gnu17 -O2 -I Sources/CTernary/include Benchmarks/kernels/attention_bench.c Sources/CTernary/*.c -lpthread -o "$work/attention_bench"
"$work/attention_bench" "$@"
