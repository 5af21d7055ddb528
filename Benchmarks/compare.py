#!/usr/bin/env python3
"""Measures Sterna against llama.cpp, in turns on the same machine, and both against what the machine can do at most.

    compare.py STERNA MODEL PEER.gguf --ceilings CEILINGS [--rounds 5] [--threads 2,1] [-o docs]

STERNA is the program, MODEL a packed model, PEER.gguf a file of the same shape for llama.cpp (peer/write_peer.py), CEILINGS the program
made of ceilings.c. Each figure comes from a process of its own, and the two take turns: Sterna, llama.cpp, Sterna, llama.cpp ... so that
a machine that is shared or gets warm treats them alike. Writes performance.csv (every run) and performance.svg into the folder of -o and
prints a table of medians. Nothing is built or downloaded here.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from chart import bars

HERE = Path(__file__).resolve().parent
PREFILL, DEPTH, DECODE = 512, 128, 64


@dataclass
class Row:
    """A kind of work: how each side is asked to do it, and which member of its answer counts."""
    name: str
    unit: str
    threads: int
    sterna: list[str]
    peer: list[str]
    member: str
    less_is_better: bool = False


def fail(text: str):
    sys.exit(f"compare.py: {text}")


def run(command: list[str]) -> tuple[dict, float]:
    """The JSON object that a program prints, and the seconds from its start to its end."""
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if result.returncode != 0:
        fail(f"{' '.join(command)}\nended with status {result.returncode}: {result.stderr.strip()[-500:]}")
    try:
        return json.loads(result.stdout.strip().splitlines()[-1]), seconds
    except (ValueError, IndexError):
        fail(f"{' '.join(command)}\nprinted no JSON: {result.stdout[:200]!r}")


def check(arguments):
    """Says what is missing before minutes are spent."""
    for path, how in ((arguments.sterna, "make release"), (arguments.model, "sterna dummy bitnet-2b-4t -o FILE"),
                      (arguments.peer, f"{HERE / 'peer/write_peer.py'} -o FILE"),
                      (arguments.ceilings, f"cc -O3 -march=native -pthread {HERE / 'ceilings.c'} -o ceilings")):
        if not Path(path).is_file():
            fail(f"{path} is not there; make it with: {how}")
    for path in (arguments.sterna, arguments.ceilings):
        if not os.access(path, os.X_OK):
            fail(f"{path} cannot be executed")
    try:
        subprocess.run([arguments.python, "-c", "import llama_cpp"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        fail(f"{arguments.python} cannot import llama_cpp: CMAKE_ARGS=-DGGML_NATIVE=ON pip install -r {HERE / 'peer/requirements.txt'}, "
             "and name that Python with --python")


def rows(arguments) -> list[Row]:
    bench = [arguments.sterna, "bench", arguments.model, "--kv", "q8"]  # as the agent has it under a memory limit
    peer = [arguments.python, str(HERE / "peer/llama_bench.py"), arguments.peer]
    result = []
    for threads in arguments.threads:
        t = ["-t", str(threads)]
        result.append(Row(f"prefill of {PREFILL} tokens", "tokens/s", threads, [*bench, "-p", str(PREFILL), "-n", "1", *t, "--json"],
                          [*peer, "-p", str(PREFILL), "-n", "0", *t], "prefill_tokens_per_s"))
        decode = [*bench, "-p", str(DEPTH), "-n", str(DECODE), *t, "--json"]
        peer_decode = [*peer, "-p", "0", "-d", str(DEPTH), "-n", str(DECODE), *t]
        result.append(Row(f"decode, constrained to {arguments.candidates} rows of the head", "tokens/s", threads,
                          [*decode, "--candidates", str(arguments.candidates)], peer_decode, "decode_tokens_per_s"))
        result.append(Row("decode, whole head", "tokens/s", threads, decode, peer_decode, "decode_tokens_per_s"))
    t = ["-t", str(max(arguments.threads))]
    # Sterna's figure is the whole life of a process; llama.cpp's counts from opening the file, without Python's own start.
    result.append(Row("start to first token, file in page cache", "s", max(arguments.threads),
                      [arguments.sterna, "generate", arguments.model, "--text", "Water on the floor next to pump 4", "-n", "1", *t, "--json"],
                      [*peer, "--ready", *t], "ready_s", less_is_better=True))
    return result


def measure(row: Row, rounds: int, record) -> tuple[list[float], list[float]]:
    values = {"sterna": [], "llama.cpp": []}
    for round_ in range(rounds):
        for engine, command in (("sterna", row.sterna), ("llama.cpp", row.peer)):
            answer, seconds = run(command)
            value = answer.get(row.member, seconds)
            values[engine].append(value)
            record(row, engine, round_, value, answer.get("peak_rss_bytes", ""))
            print(f"  {row.name}, {row.threads} threads, round {round_ + 1}, {engine}: {value:.3f} {row.unit}", file=sys.stderr)
    return values["sterna"], values["llama.cpp"]


def ceilings(arguments) -> dict[int, tuple[float, float]]:
    return {t: (found["read_bytes_per_s"], found["int8_macs_per_s"]) for t in arguments.threads for found, _ in [run([arguments.ceilings, str(t)])]}


def median_text(values: list[float]) -> str:
    digits = 3 if max(values) < 10 else 1
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sterna")
    parser.add_argument("model")
    parser.add_argument("peer")
    parser.add_argument("--ceilings", required=True, help="the program made of ceilings.c")
    parser.add_argument("--python", default=sys.executable, help="the Python that has llama_cpp (default: this one)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: [int(t) for t in text.split(",")], default=[2, 1])
    parser.add_argument("--candidates", type=int, default=64, help="rows of the head in the constrained decode")
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or any(t < 1 for t in arguments.threads):
        fail("--rounds and --threads: expected at least 1")
    check(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)

    with open(arguments.output / "performance.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["work", "threads", "engine", "round", "value", "unit", "peak_rss_bytes"])

        def record(row, engine, round_, value, peak):
            out.writerow([row.name, row.threads, engine, round_ + 1, f"{value:.4f}", row.unit, peak])
            file.flush()

        before = ceilings(arguments)
        results = [(row, *measure(row, arguments.rounds, record)) for row in rows(arguments)]
        after = ceilings(arguments)
        limits = {t: tuple(map(max, before[t], after[t])) for t in arguments.threads}
        for t, (read, macs) in limits.items():
            out.writerow(["read bandwidth", t, "machine", 1, f"{read / 1e9:.2f}", "GB/s", ""])
            out.writerow(["int8 products", t, "machine", 1, f"{macs / 1e9:.1f}", "GMAC/s", ""])

    title = f"{processor()}, median of {arguments.rounds} runs each in turns"
    print(f"{title}\n{Path(arguments.model).name}: {Path(arguments.model).stat().st_size / 1e6:,.0f} MB; "
          f"{Path(arguments.peer).name}: {Path(arguments.peer).stat().st_size / 1e6:,.0f} MB\n")
    for t, (read, macs) in limits.items():
        print(f"{t} threads: reads {read / 1e9:.1f} GB/s, {macs / 1e9:.0f} int8 GMAC/s at most")
    print("\n| work | threads | Sterna | llama.cpp | ratio |\n|---|---|---|---|---|")
    for row, ours, theirs in results:
        a, b = statistics.median(ours), statistics.median(theirs)
        ratio = b / a if row.less_is_better else a / b
        print(f"| {row.name}, {row.unit} | {row.threads} | {median_text(ours)} | {median_text(theirs)} | {ratio:.2f} |")
    speeds = [(f"{row.name}, {row.threads} thread{'s' if row.threads > 1 else ''}", ours, theirs) for row, ours, theirs in results if not row.less_is_better]
    (arguments.output / "performance.svg").write_text(bars("tokens/s, more is better", title, ("Sterna", "llama.cpp"), speeds))


if __name__ == "__main__":
    main()
