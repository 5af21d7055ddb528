#!/bin/bash
# checks.sh   runs as root inside the container of systemd-boot.sh: what happens to an installed Sterna, one thing after the other
#
# Prints `ok` or `FAILED` for each, with what there is instead, and `end` at the end.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
config=/etc/sterna/config.toml
state=/var/lib/private/sterna

ok() { echo "ok      $1"; }
failed() {
  echo "FAILED  $1"
  { systemctl status --no-pager -n 0 sterna; journalctl --no-pager -n 12 -o cat -u sterna; } 2>&1 | sed 's/^/        /'
}
check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then ok "$name"; else failed "$name"; fi
}
eventually() { # COMMAND...: true within 30 seconds
  local end=$((SECONDS + 30))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
show() { systemctl show -P "$1" sterna; }
is() { [ "$(show "$1")" = "$2" ]; }
said() { mosquitto_sub -h 127.0.0.1 -t sterna/gateway/state -C 1 -W 2 2>/dev/null; } # the retained state
says() { case $(said) in *"$1"*) true ;; *) false ;; esac; }
online() { says '"online"'; }
answered() { [ "$(grep -c '"status":"ok"' "$1")" -eq "$2" ]; } # FILE COUNT
texts() { for i in $(seq "$1"); do echo "pump $i vibration above limit, or water on the floor below tank $i"; done; }
submit() { timeout 60 sterna submit classify --agent gateway --labels leak,fire,vibration --timeout 40 --json; }
restarted() { [ "$(show NRestarts)" -gt "$1" ] && is ActiveState active; }

# A disk of its own for the journal, small enough to be filled.
mkdir -p $state
mount -t tmpfs -o size=24m,mode=700 tmpfs $state
eventually systemctl -q is-active mosquitto

# Installed: it runs at once, as nobody in particular.
dpkg -i /root/sterna.deb >/root/dpkg.log 2>&1
check "the package installs" test "$(dpkg-query -W -f '${Status}' sterna)" = "install ok installed"
check "the service is active" systemctl -q is-active sterna
check "and enabled" systemctl -q is-enabled sterna
check "it comes online" eventually online
texts 5 | submit >/root/answers 2>&1
check "jobs are answered through mosquitto" answered /root/answers 5
pid=$(show MainPID)
check "it runs as a user of its own" test "$(awk '/^Uid:/ {print ($2 >= 61184 && $2 <= 65519)}' "/proc/$pid/status")" = 1
check "nobody else reads the journal" test "$(stat -c %a $state $state/journal.sqlite | tr '\n' ' ')" = "700 600 "
exposure() { systemd-analyze security --threshold=13 --no-pager sterna.service >/dev/null; }
check "its exposure is 1.3 or better" exposure

# Reloaded: tasks change, nothing else does.
printf '[[tasks]]\nname = "alarms"\nkind = "classify"\ninput = "plant/+/alarm"\noutput = "plant/classified"\nlabels = ["leak", "fire"]\n' >>$config
timeout 60 mosquitto_sub -h 127.0.0.1 -t plant/classified -C 1 -W 30 >/root/classified 2>&1 &
listener=$!
check "systemctl reload" systemctl reload sterna
known() { case $(mosquitto_sub -h 127.0.0.1 -t sterna/gateway/info -C 1 -W 2) in *plant/+/alarm*) true ;; *) false ;; esac; }
check "the new task is known" eventually known
mosquitto_pub -h 127.0.0.1 -q 1 -t plant/7/alarm -m "smoke at cabinet 12"
wait $listener
check "and answers" grep -q '"label":"fire"' /root/classified
check "in the same process" is MainPID "$pid"
cp $config /root/good.toml
echo 'input = 5 of them' >>$config
systemctl reload sterna
check "a mistake in the file is said in the state" eventually says 'not in use'
check "and the agent goes on" online
check "in the same process still" is MainPID "$pid"

# Restarted with that mistake: it ends, and is not tried for ever. Put right, it starts.
systemctl restart sterna 2>/dev/null
check "a restart with the mistake fails with 78" eventually is ExecMainStatus 78
sleep 3
check "and is left alone" is ActiveState failed
cp /root/good.toml $config
check "put right it starts" systemctl start sterna
check "and is online" eventually online

# Killed in the middle of work.
texts 600 >/root/texts
before=$(show NRestarts)
submit </root/texts >/root/answers 2>&1 &
client=$!
eventually grep -q '"status":"ok"' /root/answers
systemctl kill -s KILL sterna
check "killed in the middle" test "$(grep -c '"status":"ok"' /root/answers)" -lt 600
check "killed, it comes back" eventually restarted "$before"
wait $client
check "and every job is answered" answered /root/answers 600

# Frozen: the watchdog hears nothing. Its time is made short, so that the test is.
mkdir -p /run/systemd/system/sterna.service.d
printf '[Service]\nWatchdogSec=4\n' >/run/systemd/system/sterna.service.d/quick.conf
systemctl daemon-reload
systemctl restart sterna
eventually online
sleep 5
check "alive, it is left alone" is NRestarts 0
before=$(show NRestarts)
systemctl kill -s STOP sterna
mosquitto_pub -h 127.0.0.1 -q 1 -t sterna/gateway/jobs/classify -m '{"id":"frozen","input":"water on the floor","labels":["leak","fire"]}'
timeout 60 mosquitto_sub -h 127.0.0.1 -q 1 -t sterna/gateway/results/frozen -C 1 -W 40 >/root/thawed &
listener=$!
check "frozen, the watchdog restarts it" eventually restarted "$before"
check "for that reason" grep -q 'Watchdog timeout' <(journalctl -u sterna --no-pager)
wait $listener
check "and the job sent meanwhile is answered" grep -q '"status":"ok"' /root/thawed

# Out of disk.
eventually online
dd if=/dev/zero of=$state/fill bs=64k >/dev/null 2>&1
for i in $(seq 40); do mosquitto_pub -h 127.0.0.1 -q 1 -t sterna/gateway/jobs/classify -m "{\"id\":\"full-$i\",\"input\":\"$(head -c 1500 /dev/zero | tr '\0' x)\",\"labels\":[\"a\",\"b\"]}"; done
check "without disk it is degraded" eventually says '"degraded"'
check "and active" systemctl -q is-active sterna
rm $state/fill
check "with disk it is online by itself" eventually online
texts 5 | submit >/root/answers 2>&1
check "and answers again" answered /root/answers 5

# Somebody cleans up the state folder. What was accepted is put back, and survives the next kill.
rm $state/journal.sqlite $state/journal.sqlite-wal
check "a journal that was removed is put back" eventually test -s $state/journal.sqlite
before=$(show NRestarts)
systemctl kill -s KILL sterna
eventually restarted "$before"
texts 5 | submit >/root/answers 2>&1
check "and serves the next start" answered /root/answers 5

# What dashboards show: there after the agent's start, and after that of a broker that has forgotten everything.
printf '[home_assistant]\ndiscovery = true\n' >>$config
retained() { timeout 4 mosquitto_sub -h 127.0.0.1 -t sterna/gateway/state -t sterna/gateway/info -t sterna/gateway/health -t 'homeassistant/device/+/config' -C 4 -W 2 2>/dev/null; }
whole() { [ "$(retained | grep -c -e '"state":"online"' -e '"version":' -e '"uptime_s":' -e '"cmps":')" -eq 4 ]; }
systemctl restart sterna
check "dashboards have everything after a restart" eventually whole
systemctl restart mosquitto
check "and after the broker's" eventually whole

# Upgraded: what the operator wrote stays, and the new program runs.
pid=$(show MainPID)
echo '# mine' >>$config
sum=$(md5sum <$config)
dpkg --force-confdef --force-confold -i /root/sterna-next.deb >/root/dpkg.log 2>&1
check "the upgrade installs" test "$(dpkg-query -W -f '${Version} ${Status}' sterna)" = "$(dpkg-deb -f /root/sterna-next.deb Version) install ok installed"
check "the edited configuration is kept" test "$(md5sum <$config)" = "$sum"
another() { [ "$(show MainPID)" != "$pid" ] && online; }
check "the new program runs" eventually another
check "dashboards have everything after the upgrade" eventually whole
systemctl disable -q --now sterna
dpkg -i --force-confold /root/sterna.deb >/root/dpkg.log 2>&1
check "a disabled service stays off, also over another version" test "$(systemctl is-enabled sterna) $(systemctl is-active sterna)" = "disabled inactive"
systemctl enable -q --now sterna
eventually online

# Removed, and purged.
dpkg -r sterna >/root/dpkg.log 2>&1
check "removed, it has stopped" says '"stopped"'
check "and left configuration and journal" test -e $config -a -e $state/journal.sqlite
umount $state
dpkg -P sterna >/root/dpkg.log 2>&1
check "purged, nothing is left" test -z "$(ls -d /etc/sterna /var/lib/sterna /var/lib/private/sterna /usr/share/sterna /usr/share/doc/sterna 2>/dev/null)"
echo end
