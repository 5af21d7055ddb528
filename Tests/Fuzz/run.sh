#!/bin/bash
# run.sh TARGET SECONDS   let libFuzzer try a reader of strangers' bytes, with AddressSanitizer (docs/security.md)
# run.sh all SECONDS      all of them, one after the other, each for its share
#
# What is found lies in .build/fuzz-finds, and is an input for:  .build/fuzz/release/fuzz TARGET FILE
# A corpus that grew is kept in .build/fuzz-corpus; Tests/Fuzz/corpus holds the beginning.
set -euo pipefail
cd "$(dirname "$0")/../.."

runtime=$(find "$(dirname "$(dirname "$(readlink -f "$(command -v swift)")")")" -name "libclang_rt.fuzzer-$(uname -m).a" -print -quit)
if [ -z "$runtime" ]; then
  echo "fuzzing: skipped, this Swift toolchain has no libFuzzer" >&2
  exit 0
fi
# Of several -sanitize options swiftc takes the last one alone; both have to stand in one.
STERNA_FUZZ=1 swift build -c release --product fuzz --scratch-path .build/fuzz --sanitize fuzzer --sanitize address -Xswiftc -sanitize=fuzzer,address >&2

fuzz() {
  mkdir -p ".build/fuzz-corpus/$1" .build/fuzz-finds
  # 64 KiB are more than any of the corpora has; 10 seconds are more than any of these inputs may take.
  .build/fuzz/release/fuzz "$1" ".build/fuzz-corpus/$1" "Tests/Fuzz/corpus/$1" -artifact_prefix=".build/fuzz-finds/$1-" \
    -max_total_time="$2" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 2>&1 | grep -E 'stat::number_of_executed|ERROR|SUMMARY|Fatal|Test unit|DONE' | sed "s/^/$1: /"
}

if [ "$1" = all ]; then
  targets=$(ls Tests/Fuzz/corpus)
  for target in $targets; do fuzz "$target" $(($2 / $(wc -w <<<"$targets"))); done
else
  fuzz "$1" "$2"
fi
