"""Rows to measure labels on: several labels a text, and texts that belong under none. From the held-out rows of training/prepare.py.

    python Benchmarks/label_rows.py RUN/heldout OUT

OUT/multi-NAME-LABELS.jsonl: 900 texts with {"text", "labels"}, for `sterna eval --multi`. A third are one row, the others two rows
joined by " and ", ". " or ", then "; where only some labels of a set are used, a third are rows of the others, with no labels.
OUT/clinc16.jsonl: all rows of 16 of CLINC150's intents, and 200 out of scope, labelled `oos`: the set's own, and as many of its other
intents. OUT/clinc150.jsonl: those of all 150 intents.
"""
import json
import random
import sys
from pathlib import Path


def read(path: Path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def write(path: Path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def several(rows, some: int | None, count: int = 900):
    r = random.Random(1)
    labels = sorted({x["label"] for x in rows})
    if some:
        labels = sorted(r.sample(labels, some))
    others = [x for x in rows if x["label"] not in labels]
    rows = [x for x in rows if x["label"] in labels]
    for i in range(count):
        if i % 3 == 2 and others:
            yield {"text": r.choice(others)["text"], "labels": []}
            continue
        chosen = r.sample(rows, 1 if i % 3 == 0 else 2)
        yield {"text": r.choice((" and ", ". ", ", then ")).join(x["text"] for x in chosen), "labels": sorted({x["label"] for x in chosen})}


def main(heldout: Path, out: Path):
    out.mkdir(parents=True, exist_ok=True)
    for name, some in (("snips", None), ("hwu64", 16), ("hwu64", None)):
        rows = list(several(read(heldout / f"{name}.jsonl"), some))
        write(out / f"multi-{name}-{len({l for x in rows for l in x['labels']})}.jsonl", rows)

    rows, r = read(heldout / "clinc150.jsonl"), random.Random(2)
    labels = sorted({x["label"] for x in rows} - {"oos"})
    write(out / "clinc150.jsonl", [x for x in rows if x["label"] != "oos"])
    some = set(r.sample(labels, 16))
    strangers = [{**x, "label": "oos"} for x in r.sample([x for x in rows if x["label"] not in some and x["label"] != "oos"], 100)]
    write(out / "clinc16.jsonl", [x for x in rows if x["label"] in some] + [x for x in rows if x["label"] == "oos"] + strangers)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
