#!/bin/sh
# One text to a Sterna agent, its answer to standard output: mosquitto_pub and mosquitto_sub, MQTT 5.
#   mosquitto.sh TEXT LABEL LABEL...          (STERNA_HOST, STERNA_PORT, STERNA_BASE, STERNA_AGENT)
# The text and the labels must not contain quotes or backslashes: a shell script is no JSON writer.
set -eu
host=${STERNA_HOST:-127.0.0.1} port=${STERNA_PORT:-1883} base=${STERNA_BASE:-sterna} agent=${STERNA_AGENT:-gateway}
[ $# -ge 3 ] || { echo "usage: $0 TEXT LABEL LABEL..." >&2; exit 64; }
text=$1; shift
labels=$(printf '"%s",' "$@")
id=sh-$$-$(date +%s)
job="{\"id\":\"$id\",\"input\":\"$text\",\"labels\":[${labels%,}]}"
# Listen first, for the first message that is an answer (not "accepted") or for a minute; send until there is one: a repeat of an id is answered with the same bytes.
answer=$(mktemp)
trap 'kill -9 $listener 2>/dev/null || :; rm -f "$answer"' EXIT
mosquitto_sub -V mqttv5 -h "$host" -p "$port" -q 1 -W 60 -t "$base/$agent/results/$id" >"$answer" &
listener=$!
tries=0
until grep -qE '"status":"(ok|error)"' "$answer"; do
  [ $((tries % 20)) -ne 0 ] || mosquitto_pub -V mqttv5 -h "$host" -p "$port" -q 1 -t "$base/$agent/jobs/classify" -m "$job"
  tries=$((tries + 1))
  kill -0 $listener 2>/dev/null || { echo "no answer: is the agent running?" >&2; exit 1; }
  sleep 0.2
done
grep -E '"status":"(ok|error)"' "$answer" | head -n 1
