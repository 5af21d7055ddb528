#!/bin/bash
# journal-bytes.sh BINARY [JOBS]   how many bytes and syncs a job costs the disk under the journal, one job at a time, ten a second, and all at once
#
# The journal has an ext4 of its own on a loop device, whose counter says what would go to the flash: pages of the write-ahead log, checkpoints and what the file
# system itself writes. Syncs are counted by Tests/faults/faults.c. As root; needs mosquitto, mosquitto-clients, e2fsprogs, a C compiler.
set -euo pipefail
binary=$(realpath "$1")
jobs=${2:-500}
root=$(cd "$(dirname "$0")/.." && pwd)
port=28831
folder=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'kill $(jobs -p) 2>/dev/null || true; wait; umount "$folder/journal" || true; rm -rf "$folder"' EXIT
truncate -s 300M "$folder/disk"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$folder/disk"
mkdir "$folder/journal"
mount -o loop "$folder/disk" "$folder/journal"
device=$(findmnt -n -o SOURCE "$folder/journal")
cc -O1 -shared -fPIC -o "$folder/faults.so" "$root/Tests/faults/faults.c" -ldl
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n' $port >"$folder/mosquitto.conf"
PATH=$PATH:/usr/sbin mosquitto -c "$folder/mosquitto.conf" 2>/dev/null &
cat >"$folder/sterna.toml" <<TOML
[agent]
id = "bytes"
[mqtt]
port = $port
[model]
path = "$root/Models/pocket.gguf"
[limits]
queue_jobs = 100000
[prefixes]
disk_mb = 0
[journal]
path = "$folder/journal/journal.sqlite"
keep_jobs = ${KEEP_JOBS:-5000}
TOML
LD_PRELOAD=$folder/faults.so FAULT_FOLDER=$folder/journal FAULT_LOG=$folder/calls "$binary" run --config "$folder/sterna.toml" 2>"$folder/log" &
agent=$!
written() { sync -f "$folder/journal"; awk '{ print $7 * 512 }' "/sys/block/${device#/dev/}/stat"; }
syncs() { grep -c ' sync ' "$folder/calls" || true; }
job() { printf '{"id":"%s","input":"Oil is dripping from the pump at line 3, the floor under the press is wet.","labels":["leak","noise","other"]}\n' "$1"; }
until grep -q 'connected to' "$folder/log"; do sleep 0.2; done
mosquitto_pub -p $port -q 1 -t sterna/bytes/jobs/classify -m "$(job warm)"
sleep 5

measure() {  # name, pause between jobs
  mosquitto_sub -p $port -q 1 -t 'sterna/bytes/results/+' -C "$jobs" >"$folder/results" &
  local listener=$!
  sleep 0.5
  local bytes syncs
  bytes=$(written); syncs=$(syncs)
  for i in $(seq "$jobs"); do job "${1// /-}-$i"; [ "$2" = 0 ] || sleep "$2"; done | mosquitto_pub -p $port -q 1 -l -t sterna/bytes/jobs/classify
  wait $listener
  sleep 4  # the broker's acknowledgements are written down together
  awk -v n="$jobs" -v b=$(($(written) - bytes)) -v s=$(($(syncs) - syncs)) -v r="$(stat -c %s "$folder/results")" -v name="$1" \
    'BEGIN { printf "%-14s %6.0f bytes and %.2f syncs a job, which has %.0f bytes with its result\n", name, b / n, s / n, r / n + 140 }'
}
measure "one at a time" 0.15
measure "ten a second" 0.1
measure "all at once" 0
before=$(written)
sleep 10
echo "idle           $(($(written) - before)) bytes in ten seconds"
