#!/usr/bin/env python3
"""What an agent does over a long time, and what it costs: a private broker, one agent, real clients.

    soak.py STERNA MODEL load MINUTES [-o docs]    as many jobs as the agent can do; then a minute without any
    soak.py STERNA MODEL outage MINUTES            the broker dies while results wait, and comes back empty after so long
    soak.py STERNA MODEL storm JOBS                how fast jobs are accepted that all wait at once

`load` takes a sample of /proc every five seconds, writes soak.csv and soak.svg into the folder of -o, and says the slope of the resident memory: a straight line
through all samples after the first tenth, by least squares. Nothing is built or downloaded here; mosquitto and mosquitto-clients must be there.
"""
import argparse
import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from chart import lines

HERE = Path(__file__).resolve().parent
INTERVAL, IDLE = 5, 60
OUTSTANDING = 400


def fail(text: str):
    sys.exit(f"soak.py: {text}")


class Site:
    """A broker and an agent in a folder that goes away with them."""

    def __init__(self, sterna: str, model: str):
        self.folder = Path(tempfile.mkdtemp(prefix="sterna-soak-", dir=os.environ.get("TMPDIR", "/var/tmp")))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {os.environ.get('USER', 'root')}\nmax_queued_messages 1000000\nmax_inflight_messages 100\n")
        (self.folder / "sterna.toml").write_text(
            f'[agent]\nid = "soak"\n[mqtt]\nport = {self.port}\nreconnect_max_ms = 5000\n[model]\npath = "{Path(model).resolve()}"\n'
            f'[journal]\npath = "{self.folder}/journal.sqlite"\n[limits]\nqueue_jobs = 100000\n')
        self.sterna = sterna
        self.children: list[subprocess.Popen] = []
        self.broker = self.agent = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        shutil.rmtree(self.folder)

    def child(self, command: list[str], **options) -> subprocess.Popen:
        self.children.append(subprocess.Popen(command, **options))
        return self.children[-1]

    def start_broker(self):
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") or fail("mosquitto is missing")
        self.broker = self.child([program, "-c", str(self.folder / "mosquitto.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        fail("mosquitto does not listen")

    @property
    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text() if path.exists() else ""

    def start_agent(self, waits_for: str = "connected to"):
        seen = self.log.count(waits_for)
        with open(self.folder / "agent.log", "a") as log:
            self.agent = self.child([self.sterna, "run", "--config", str(self.folder / "sterna.toml")], stderr=log)
        while self.log.count(waits_for) == seen:
            if self.agent.poll() is not None:
                fail(f"the agent ended: {self.log[-1000:]}")
            time.sleep(0.05)

    def client(self, program: str, *arguments: str, **options) -> subprocess.Popen:
        return self.child([program, "-V", "mqttv5", "-p", str(self.port), "-q", "1", *arguments], **options)

    def publisher(self, kind: str) -> subprocess.Popen:
        return self.client("mosquitto_pub", "-t", f"sterna/soak/jobs/{kind}", "-l", stdin=subprocess.PIPE, text=True)

    # What the kernel says about the agent.

    def status(self, name: str, path: str = "status") -> int:
        for line in Path(f"/proc/{self.agent.pid}/{path}").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        return 0

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.agent.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self) -> int:
        return sum(self.status("voluntary_ctxt_switches", f"task/{task}/status") for task in os.listdir(f"/proc/{self.agent.pid}/task"))

    def journal_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("journal.sqlite*"))


def job(number: int) -> tuple[str, str]:
    """Kind and payload; every fifth is an extraction."""
    text = f"oil under pump {number} on line B, vibration {number % 97 / 10} mm/s"
    if number % 5 == 4:
        return "extract", json.dumps({"id": f"s-{number}", "input": text, "fields": ["machine", "value:number", "place"]})
    return "classify", json.dumps({"id": f"s-{number}", "input": text, "labels": ["leak", "fire", "vibration", "normal"]})


class Results:
    """Counts answers by id as they arrive."""

    def __init__(self, site: Site, *more: str):
        self.ids: dict[str, int] = {}
        self.arrivals = 0
        child = site.client("mosquitto_sub", "-t", "sterna/soak/results/+", "-F", "%t", *more, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, args=(child.stdout,), daemon=True).start()
        time.sleep(1)  # mosquitto_sub does not say when it has subscribed

    def read(self, stream):
        for line in stream:
            name = line.rstrip().rsplit("/", 1)[1]
            self.ids[name] = self.ids.get(name, 0) + 1
            self.arrivals += 1

    def wait(self, count: int, seconds: float):
        end = time.monotonic() + seconds
        while len(self.ids) < count and time.monotonic() < end:
            time.sleep(0.05)


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line with the least squares, y per x."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)


def load(site: Site, minutes: float, output: Path):
    site.start_broker()
    site.start_agent()
    results = Results(site)
    publishers = {kind: site.publisher(kind) for kind in ("classify", "extract")}
    sent, samples, start = 0, [], time.monotonic()
    due = start
    while (now := time.monotonic()) < start + minutes * 60:
        done = len(results.ids)
        while sent - done < OUTSTANDING:
            kind, payload = job(sent)
            publishers[kind].stdin.write(payload + "\n")
            sent += 1
        for publisher in publishers.values():
            publisher.stdin.flush()
        if now >= due:
            due += INTERVAL
            samples.append((now - start, done, site.status("VmRSS") * 1024, site.status("RssAnon") * 1024, site.journal_bytes(), site.wakeups(), site.cpu_seconds()))
        time.sleep(0.005)
    for publisher in publishers.values():
        publisher.stdin.close()
    results.wait(sent, 60)
    end = time.monotonic()
    lost = sent - len(results.ids)
    time.sleep(5)
    cpu, wakeups = site.cpu_seconds(), site.wakeups()
    time.sleep(IDLE)
    cpu, wakeups = (site.cpu_seconds() - cpu) / IDLE, (site.wakeups() - wakeups) / IDLE

    with open(output / "soak.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["seconds", "jobs", "rss_bytes", "rss_anonymous_bytes", "journal_bytes", "wakeups", "cpu_seconds"])
        for sample in samples:
            out.writerow([f"{sample[0]:.1f}", *sample[1:-1], f"{sample[-1]:.2f}"])
    settled = [s for s in samples if s[0] >= minutes * 6]
    growth = slope([(s[0] / 3600, s[2]) for s in settled])
    rates = [((b[0]) / 60, (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(samples, samples[1:])]
    used = samples[-1][6] - samples[0][6]
    print(f"{len(results.ids):,} jobs in {end - start:,.0f} s, {len(results.ids) / (end - start):,.0f} a second; {lost} lost, {results.arrivals - len(results.ids)} results twice")
    print(f"resident memory {settled[0][2] / 1e6:.1f} MB after {settled[0][0] / 60:.1f} minutes, {settled[-1][2] / 1e6:.1f} MB at the end, "
          f"{min(s[2] for s in settled) / 1e6:.1f} to {max(s[2] for s in settled) / 1e6:.1f} MB; slope {growth / 1e6:+.3f} MB an hour")
    print(f"journal at most {max(s[4] for s in samples) / 1e6:.1f} MB; under load {used / (samples[-1][0] - samples[0][0]):.2f} cores")
    print(f"idle: {cpu * 100:.2f} % of a core, {wakeups:.2f} wakeups a second")
    (output / "soak.svg").write_text(lines(
        f"{minutes:g} minutes at full load, memory slope {growth / 1e6:+.3f} MB an hour",
        [("resident memory, MB", [(s[0] / 60, s[2] / 1e6) for s in samples]), ("jobs a second", rates), ("journal, MB", [(s[0] / 60, s[4] / 1e6) for s in samples])], "minutes"))


def outage(site: Site, minutes: float):
    """The agent accepts jobs, the broker dies before the answers are out; it has lost everything when it comes back."""
    count = 2000
    site.start_broker()
    site.start_agent()
    publishers = {kind: site.publisher(kind) for kind in ("classify", "extract")}
    for number in range(count):
        kind, payload = job(number)
        publishers[kind].stdin.write(payload + "\n")
    for publisher in publishers.values():
        publisher.stdin.close()
        publisher.wait()
    rows = 0
    while rows < count:
        rows = len(journal(site))
        if rows == count:
            break
        time.sleep(0.05)
    site.broker.kill()
    site.broker.wait()
    unsent = sum(1 for _, left in journal(site) if left)
    print(f"the broker is dead; {rows} jobs accepted, {unsent} without an answer at the broker", flush=True)
    time.sleep(minutes * 60)
    unsent = sum(1 for _, left in journal(site) if left)
    site.start_broker()
    start = time.monotonic()
    results = Results(site)
    results.wait(unsent, 120)
    print(f"away for {minutes:g} minutes: {unsent} results were waiting, {len(results.ids)} heard {time.monotonic() - start:.1f} s after the broker came back")


def journal(site: Site) -> list[tuple[str, bool]]:
    """Ids in a copy of the journal, and whether the broker still lacks something: the agent holds the journal itself."""
    for path in site.folder.glob("journal.sqlite*"):
        shutil.copy(path, site.folder / path.name.replace("journal", "copy"))
    try:
        with sqlite3.connect(site.folder / "copy.sqlite") as database:
            return [(id, state == 0 or unsent != 0) for id, state, unsent in database.execute("SELECT id, state, unsent FROM jobs")]
    except sqlite3.DatabaseError:  # copied in the middle of a checkpoint
        return []
    finally:
        database.close()
        for path in site.folder.glob("copy.sqlite*"):
            path.unlink()


def storm(site: Site, count: int):
    """All jobs wait at the broker when the agent comes."""
    site.start_broker()
    site.client("mosquitto_sub", "-c", "-x", "3600", "-i", "sterna-soak", "-t", "sterna/soak/jobs/+", "-E").wait()
    publisher = site.publisher("classify")
    for number in range(count):
        publisher.stdin.write(job(number * 5)[1] + "\n")
    publisher.stdin.close()
    publisher.wait()
    results = Results(site)
    site.start_agent()
    start = time.monotonic()
    accepted = 0
    while accepted < count and time.monotonic() < start + 300:
        accepted = max(accepted, len(journal(site)))
    seconds = time.monotonic() - start
    answered = len(results.ids)
    results.wait(count, 300)
    print(f"{accepted} jobs accepted in {seconds:.2f} s, {accepted / seconds:,.0f} a second, while {answered} were answered; all answered after {time.monotonic() - start:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sterna")
    parser.add_argument("model")
    parser.add_argument("what", choices=["load", "outage", "storm"])
    parser.add_argument("amount", type=float)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs")
    arguments = parser.parse_args()
    if arguments.amount <= 0:
        fail("the amount must be more than nothing")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Site(arguments.sterna, arguments.model) as site:
        if arguments.what == "load":
            arguments.output.mkdir(parents=True, exist_ok=True)
            load(site, arguments.amount, arguments.output)
        elif arguments.what == "outage":
            outage(site, arguments.amount)
        else:
            storm(site, int(arguments.amount))


if __name__ == "__main__":
    main()
