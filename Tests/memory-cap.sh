#!/bin/bash
# memory-cap.sh STERNA MEGABYTES [MODEL]   the agent under a hard memory limit, page cache charged, answering jobs over MQTT
#
# Makes a model with the shapes of BitNet b1.58 2B4T (or takes MODEL), drops it from the page cache, starts the agent in a control group of
# MEGABYTES (of 1,000,000 bytes), and sends 20 classifications into 8 labels and 20 extractions of 5 fields, each over a text of 300 tokens, and then one
# more of the latter alone. Prints one line of JSON: what the kernel charged at most, pages read again, what `health` says of both and of experts, and how long jobs took. Ends with 3 where there is no
# memory controller to be had. VOCAB names a GGUF whose vocabulary the model gets.
set -euo pipefail
sterna=$(realpath "$1")
megabytes=$2
model=${3:-}
PATH=$PATH:/usr/sbin

name=sterna-memory-$$
if [ -d /sys/fs/cgroup/memory ] && mkdir "/sys/fs/cgroup/memory/$name" 2>/dev/null; then
  group=/sys/fs/cgroup/memory/$name
  echo $((megabytes * 1000000)) >"$group/memory.limit_in_bytes"
  peak_file=memory.max_usage_in_bytes
elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null && mkdir "/sys/fs/cgroup/$name" 2>/dev/null; then
  group=/sys/fs/cgroup/$name
  echo $((megabytes * 1000000)) >"$group/memory.max"
  echo 0 >"$group/memory.swap.max" 2>/dev/null || true
  peak_file=memory.peak
else
  echo "memory-cap: no memory controller here, or not root" >&2
  exit 3
fi

work=$(mktemp -d)
broker= agent=
cleanup() {
  [ -z "$agent" ] || { kill -KILL "$agent" 2>/dev/null || true; wait "$agent" 2>/dev/null || true; }
  [ -z "$broker" ] || { kill -TERM "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; }
  rmdir "$group" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -z "$model" ]; then
  model=$work/model.gguf
  "$sterna" dummy bitnet-2b-4t -o "$model" --layout small ${VOCAB:+--vocab "$VOCAB"} >"$work/dummy.log" 2>&1 || { cat "$work/dummy.log" >&2; exit 1; }
fi
# Pages that are cached already belong to somebody else and would escape the limit; dirty ones cannot be dropped.
sync "$model"
dd if="$model" iflag=nocache count=0 2>/dev/null

for _ in 1 2 3 4 5 6 7 8; do
  port=$((20000 + RANDOM % 30000))
  printf 'listener %d 127.0.0.1\nallow_anonymous true\nuser %s\nmax_queued_messages 1000\n' "$port" "$(id -un)" >"$work/mosquitto.conf"
  mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
  broker=$!
  for _ in $(seq 50); do
    kill -0 "$broker" 2>/dev/null || break
    if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break 2; fi
    sleep 0.1
  done
  kill -TERM "$broker" 2>/dev/null || true
done

cat >"$work/sterna.toml" <<TOML
[agent]
id = "capped"
[mqtt]
port = $port
[model]
path = "$model"
context = 1024
threads = ${THREADS:-2}
[memory]
limit_mb = $megabytes
[limits]
queue_jobs = 1000
payload_kb = 64
[journal]
path = "$work/journal.sqlite"
TOML
started=$(date +%s%N)
bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "$sterna" run --config "$work/sterna.toml" >"$work/agent.log" 2>&1 &
agent=$!
state=
for _ in $(seq 240); do
  kill -0 "$agent" 2>/dev/null || break
  state=$(mosquitto_sub -p "$port" -t sterna/capped/state -C 1 -W 1 2>/dev/null || true)
  case $state in *'"online"'*) break ;; esac
done
case $state in *'"online"'*) ;; *) echo "memory-cap: the agent did not come online" >&2; cat "$work/agent.log" >&2; exit 1 ;; esac
ready=$((($(date +%s%N) - started) / 1000000))

# Texts of 300 tokens, each another one.
words=(pump valve line tank motor fan sensor alarm pressure level above below limit warning shift operator filter belt oil water)
text() { # SEED COUNT
  local i out=
  for ((i = 0; i < $2; i++)); do out+="${words[$((($1 * 7 + i * i + i * 3) % 20))]} "; done
  printf '%s' "$out"
}
count=300
tokens=$("$sterna" tokenize "$model" --text "$(text 1 $count)" --json | tr ',' '\n' | wc -l)
count=$((count * 300 / tokens))
for ((i = 0; i < 20; i++)); do echo "$(text "$i" "$count")"; done >"$work/texts"

submit() { "$sterna" submit "$1" --port "$port" --agent capped --timeout 900 --json "${@:2}" <"$work/texts"; }
begin=$(date +%s%N)
submit classify --labels leak,fire,vibration,overheating,"power failure",blockage,normal,other >"$work/classified" || true
middle=$(date +%s%N)
submit extract --fields machine,place,value,cause,action >"$work/extracted" || true
end=$(date +%s%N)
sed -i 1q "$work/texts"
submit extract --fields machine,place,value,cause,action >"$work/alone" || true

ok() { grep -c '"status":"ok"' "$1" || true; }
# `health` comes every minute; the last one is from after the jobs.
health=$(mosquitto_sub -p "$port" -t sterna/capped/health -C 2 -W 90 2>/dev/null | tail -1)
field() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$health"; }
stat() { awk -v k="$1" '$1 == k {print $2}' "$group/memory.stat"; }
printf '{"limit_bytes":%d,"peak_bytes":%d,"pages_read_again":%d,"file_bytes":%d,"health_peak_bytes":%d,"health_pages_read_again":%d,"expert_bytes_read":%d,' \
  $((megabytes * 1000000)) "$(cat "$group/$peak_file")" "$(stat workingset_refault_file || true)" "$(command stat -c %s "$model")" \
  "$(field memory_peak_bytes)" "$(field pages_read_again)" "$(field bytes_read)"
# Of the one alone, whose tokens pass one by one.
cost() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$work/alone"; }
printf '"alone_expert_hits_in_10000":%d,"alone_expert_bytes_read":%d,"alone_passes":%d,' "$(awk '{printf "%d", $1 * 10000}' <<<"$(cost hit_rate)")" "$(cost bytes_read)" "$(cost passes)"
printf '"classified":%d,"extracted":%d,"text_tokens":%d,"ready_ms":%d,"classify_ms":%d,"extract_ms":%d,"peak_rss_bytes":%d}\n' \
  "$(ok "$work/classified")" "$(ok "$work/extracted")" "$(sed -n 's/.*"usage":{"in":\([0-9]*\).*/\1/p' "$work/classified" | head -1)" "$ready" \
  $(((middle - begin) / 1000000)) $(((end - middle) / 1000000)) "$(field peak_rss_bytes)"
kill -TERM "$agent"
wait "$agent" || true
agent=
