#!/bin/bash
# run.sh TARGET SECONDS   let libFuzzer try a reader of strangers' bytes, with AddressSanitizer (docs/security.md)
# run.sh all SECONDS      all of them, one after the other, each for its share (part of make test)
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
  local log=".build/fuzz-finds/$1.log"
  # Leaks are left to the limit on memory: LeakSanitizer does not know the pointers in enums of Swift, whose unused bits say which case it is.
  # 64 KiB are more than any of the corpora has; 30 seconds are more than any of these inputs may take.
  if ASAN_OPTIONS=detect_leaks=0 .build/fuzz/release/fuzz "$1" ".build/fuzz-corpus/$1" "Tests/Fuzz/corpus/$1" -artifact_prefix=".build/fuzz-finds/$1-" \
    -max_total_time="$2" -max_len=65536 -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 >"$log" 2>&1; then
    echo "fuzzing $1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs withstood"
  else
    tail -50 "$log" >&2
    echo "fuzzing $1: failed; the input is named above, all of the log is $log" >&2
    return 1
  fi
}

if [ "$1" = all ]; then
  targets=$(ls Tests/Fuzz/corpus)
  for target in $targets; do fuzz "$target" $(($2 / $(wc -w <<<"$targets"))); done
else
  fuzz "$1" "$2"
fi
