#!/bin/bash
# demo.sh STERNA   a private broker on loopback, the agent with the pocket model, real messages, and nothing left behind
set -euo pipefail
sterna=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin

need() {
  command -v "$1" >/dev/null || { echo "demo: $1 is missing: sudo apt-get install $2" >&2; exit 1; }
}
need mosquitto mosquitto
need mosquitto_pub mosquitto-clients
[ -f "$root/Models/pocket.gguf" ] || { echo "demo: Models/pocket.gguf is missing: is this a full clone?" >&2; exit 1; }

work=$(mktemp -d)
broker= agent= listener=
end() { # SIGNAL PID
  if [ -n "$2" ]; then
    kill "-$1" "$2" 2>/dev/null || true
    wait "$2" 2>/dev/null || true
  fi
}
cleanup() {
  trap '' INT TERM
  end KILL "$listener" # asked to end, mosquitto_sub would go on looking for a broker that is gone
  end TERM "$agent"
  end TERM "$broker"
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A broker of our own: loopback only, on the first port that is free.
start_broker() {
  for _ in 1 2 3 4 5 6 7 8; do
    port=$((20000 + RANDOM % 30000))
    printf 'listener %d 127.0.0.1\nallow_anonymous true\nuser %s\n' "$port" "$(id -un)" >"$work/mosquitto.conf"
    mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
    broker=$!
    for _ in $(seq 50); do
      kill -0 "$broker" 2>/dev/null || break
      if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
      sleep 0.1
    done
    end TERM "$broker"
  done
  echo "demo: mosquitto did not start:" >&2
  cat "$work/mosquitto.log" >&2
  exit 1
}

start_broker
sed -e "s#@PORT@#$port#" -e "s#@WORK@#$work#" -e "s#@ROOT@#$root#" "$here/sterna.toml" >"$work/sterna.toml"
"$sterna" run --config "$work/sterna.toml" >"$work/agent.log" 2>&1 &
agent=$!

# The agent says `online` in a retained message when it is ready for jobs.
online=
for _ in $(seq 30); do
  kill -0 "$agent" 2>/dev/null || break
  case $(mosquitto_sub -h 127.0.0.1 -p "$port" -t sterna/demo/state -C 1 -W 1 2>/dev/null || true) in *'"online"'*) online=yes; break ;; esac
done
if [ -z "$online" ]; then
  echo "demo: the agent did not come online:" >&2
  cat "$work/agent.log" >&2
  exit 1
fi
echo "A private broker on 127.0.0.1:$port, the agent with Models/pocket.gguf, and messages through MQTT:"
echo

"$sterna" submit classify --port "$port" --agent demo --labels leak,fire,vibration,overheating,"power failure",normal <<'TEXTS'
pump 7 vibration 4.2 mm/s above limit on line B
water on the floor below tank 3
motor M12 reached 96 C, fan is off
TEXTS
echo
"$sterna" submit classify --port "$port" --agent demo --labels PlayMusic,GetWeather,BookRestaurant,AddToPlaylist <<'TEXTS'
will it rain in Oslo tomorrow morning
put this song on my running list
TEXTS
echo
"$sterna" submit extract --port "$port" --agent demo --fields machine,value,place <<'TEXTS'
pump 7 vibration 4.2 mm/s above limit on line B
TEXTS
"$sterna" submit extract --port "$port" --agent demo --fields city,timeRange,condition_description <<'TEXTS'
will it snow in Oslo tomorrow morning
TEXTS
echo
echo "A task of the configuration: plain text on factory/line2/alarms, the answer on factory/triage"
mosquitto_sub -h 127.0.0.1 -p "$port" -t factory/triage -C 1 -W 30 -v >"$work/triage" &
listener=$!
sleep 0.5 # mosquitto_sub does not say when it has subscribed
mosquitto_pub -h 127.0.0.1 -p "$port" -q 1 -t factory/line2/alarms -m "smoke and flames at cabinet 12"
echo 'factory/line2/alarms smoke and flames at cabinet 12'
wait "$listener"
listener=
cat "$work/triage"
echo

memory=$(awk '/^VmHWM/ {printf "%.0f MB", $2 * 1024 / 1e6}' "/proc/$agent/status")
kill -TERM "$agent"
wait "$agent"
echo "The agent ended cleanly; its peak memory was $memory."
