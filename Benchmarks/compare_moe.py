#!/usr/bin/env python3
"""Measures mixtures of experts in Sterna and in llama.cpp, in turns on the same machine.

    compare_moe.py STERNA --capped MODEL PEER.gguf --in-memory MODEL PEER.gguf [--cap 4000] [--rounds 3] [-o docs]

The first pair of files is larger than --cap megabytes: each run is a process of its own in a control group with that limit, page cache charged, behind a
file that was dropped from the page cache; llama.cpp maps its file and does not repack it, since that memory it would not have. The second pair is in the page cache, without a
limit, and llama.cpp repacks. MODEL is made by `sterna dummy SHAPE`, PEER.gguf by peer/write_peer_moe.py. Needs root and a memory controller.
Writes experts.csv (every run) and experts.svg into the folder of -o, and prints a table of medians, with the part of the disk formula (docs/experts.md) that Sterna reached.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from chart import bars
from compare import HERE, median_text, processor

LONG, SHORT = 256, 18  # tokens of a prompt
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def fail(text: str):
    sys.exit(f"compare_moe.py: {text}")


class Group:
    """A control group with a hard limit of so many bytes, or none."""

    def __init__(self, limit: int | None):
        base = V1 if V1.is_dir() else V2
        self.path = base / f"sterna-compare-{os.getpid()}"
        limit_file, self.peak_file = ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if base == V1 else ("memory.max", "memory.peak")
        try:
            if base == V2:
                (V2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            if limit:
                (self.path / limit_file).write_text(str(limit))
        except OSError as error:
            fail(f"no memory controller here, or not root: {error}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.path.rmdir()

    def run(self, command: list[str]) -> dict:
        """The JSON object that a program prints, with the peak of what was charged."""
        result = subprocess.run(["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(self.path), *command], capture_output=True, text=True)
        if result.returncode != 0:
            fail(f"{' '.join(command)}\nended with status {result.returncode}: {result.stderr.strip()[-500:]}")
        return json.loads(result.stdout.strip().splitlines()[-1]) | {"charged": int((self.path / self.peak_file).read_text())}


@dataclass
class Work:
    """What both sides do: a prompt, and tokens one by one behind it; llama.cpp decodes fewer where it has to wait for the disk."""
    place: str
    prompt: int
    decode: tuple[int, int]  # tokens that Sterna and llama.cpp decode; 0: only the prompt counts
    prefills: dict[str, list[float]] = field(default_factory=lambda: {"sterna": [], "llama.cpp": []})
    decodes: dict[str, list[float]] = field(default_factory=lambda: {"sterna": [], "llama.cpp": []})
    shares: list[float] = field(default_factory=list)


def drop(path: str):
    """Pages that are cached already belong to somebody else and would escape the limit."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def warm(path: str):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def formula(plan: dict, answer: dict) -> float:
    """Tokens a second from what this run read, with nothing overlapped."""
    memory = plan["memory_bytes_per_s"]
    read = answer["experts"]["decode"]["bytes_read"] / answer["decode_tokens"]
    return 1 / ((plan["dense_bytes"] + plan["records_per_token"] * plan["record_bytes"]) / memory + read / plan["disk_bytes_per_s"])


def measure(arguments, work: Work, model: str, peer: str, cap: int | None, record):
    threads = ["-t", str(arguments.threads)]
    ours = [arguments.sterna, "bench", model, "--kv", "q8", "--context", "1024", "-p", str(work.prompt), "-n", str(max(1, work.decode[0])), *threads, "--json"]
    theirs = [arguments.python, str(HERE / "peer/llama_bench.py"), peer, "-p", str(work.prompt), "-d", str(work.prompt), "-n", str(work.decode[1]), *threads]
    if cap:
        ours += ["--memory-limit", str(cap // 1_000_000)]
        theirs += ["--no-repack"]
    for round_ in range(arguments.rounds):
        for engine, command, path in (("sterna", ours, model), ("llama.cpp", theirs, peer)):
            (drop if cap else warm)(path)
            with Group(cap) as group:
                answer = group.run(command)
            found = [("prefill", work.prefills, answer["prefill_tokens_per_s"])]
            if work.decode[0]:
                found.append(("decode", work.decodes, answer["decode_tokens_per_s"]))
            for name, values, value in found:
                values[engine].append(value)
                record(f"{name}, {work.prompt} tokens of prompt, {work.place}", engine, round_, value, answer["charged"])
                print(f"  {work.place}, {name} with {work.prompt} tokens of prompt, round {round_ + 1}, {engine}: {value:.3f} tokens/s", file=sys.stderr)
            if engine == "sterna" and cap and work.decode[0]:
                drop(model)
                with Group(cap) as group:
                    plan = group.run([arguments.sterna, "plan", model, "--kv", "q8", "--context", "1024", *threads, "--memory-limit", str(cap // 1_000_000), "--json"])
                work.shares.append(answer["decode_tokens_per_s"] / formula(plan, answer))
                print(f"  {answer['experts']['decode']['hit_rate']:.0%} of the experts were there, the disk gives {plan['disk_bytes_per_s'] / 1e9:.2f} GB/s: "
                      f"{work.shares[-1]:.2f} of the formula", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sterna")
    parser.add_argument("--capped", nargs=2, metavar=("MODEL", "PEER"))
    parser.add_argument("--in-memory", nargs=2, metavar=("MODEL", "PEER"))
    parser.add_argument("--cap", type=int, default=4000, help="megabytes (of 1,000,000 bytes)")
    parser.add_argument("--python", default=sys.executable, help="the Python that has llama_cpp (default: this one)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        fail("--rounds and --threads: expected at least 1")
    files = [arguments.sterna, *(arguments.capped or []), *(arguments.in_memory or [])]
    if len(files) == 1:
        fail("nothing to measure: name files with --capped or --in-memory")
    for path in files:
        if not Path(path).is_file():
            fail(f"{path} is not there")
    arguments.output.mkdir(parents=True, exist_ok=True)

    works = []
    with open(arguments.output / "experts.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["work", "engine", "round", "value", "unit", "peak_charged_bytes"])

        def record(name, engine, round_, value, charged):
            out.writerow([name, engine, round_ + 1, f"{value:.4f}", "tokens/s", charged])
            file.flush()

        for pair, cap, place, decodes in ((arguments.capped, arguments.cap * 1_000_000, f"under {arguments.cap} MB", (48, 8)),
                                          (arguments.in_memory, None, "in memory", (64, 64))):
            for prompt in (SHORT, LONG) if pair else ():
                works.append(Work(place, prompt, decodes if prompt == (SHORT if cap else LONG) else (0, 0)))
                measure(arguments, works[-1], *pair, cap, record)

    rows = []
    for work in works:
        rows.append((f"{work.place}, prefill of {work.prompt} tokens", work.prefills["sterna"], work.prefills["llama.cpp"]))
        if work.decode[0]:
            rows.append((f"{work.place}, decode", work.decodes["sterna"], work.decodes["llama.cpp"]))
    title = f"{processor()}, {arguments.threads} threads, median of {arguments.rounds} runs each in turns"
    print(f"{title}\n\n| work, tokens/s | Sterna | llama.cpp | ratio |\n|---|---|---|---|")
    for name, ours, theirs in rows:
        print(f"| {name} | {median_text(ours)} | {median_text(theirs)} | {statistics.median(ours) / statistics.median(theirs):.2f} |")
    for work in works:
        if work.shares:
            print(f"\n{work.place}, decode: {statistics.median(work.shares):.2f} of the disk formula with nothing overlapped")
    (arguments.output / "experts.svg").write_text(bars("tokens/s, more is better", title, ("Sterna", "llama.cpp"), rows))


if __name__ == "__main__":
    main()
