"""Accuracy on held-out rows, decoded under the same constraints as the agent's.

    python evaluate.py RUN --data DATA [--limit 300]

Classification: every label is scored as a continuation of the prompt, each token's probability normalised over the
tokens that lead to an offered label (a trie). Extraction: keys are forced, then `null` or a quote, then only tokens that
continue some place of the text, or the closing quote. RUN holds checkpoint.pt, tokenizer.json and heldout/.
"""
import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer

import data
from export import load
from model import LayerCache
from names import words


class Session:
    """One sequence, fed a few tokens at a time; attention mask and positions follow by themselves."""

    def __init__(self, model):
        self.model, self.caches, self.length = model, [LayerCache() for _ in model.blocks], 0

    def feed(self, ids):
        """Log-probabilities after the last of `ids`."""
        n = len(ids)
        mask = torch.full((n, self.length + n), -torch.inf).triu(self.length + 1)[None, None]
        positions = torch.arange(self.length, self.length + n)[None]
        h = self.model(torch.tensor([ids]), positions, mask, caches=self.caches)
        self.length += n
        return self.model.logits(h[0, -1]).log_softmax(-1)


class Labels:
    """The offered labels as token sequences, each with its end, and the trie they form."""

    def __init__(self, pieces, names):
        self.pieces, self.names = pieces, names
        self.paths = [(*pieces.ids(n), pieces.end) for n in names]
        self.children = {}
        for path in self.paths:
            for i in range(len(path)):
                self.children.setdefault(path[:i], set()).add(path[i])

    def choose(self, model, text):
        """All labels in one pass: the prompt, then every label as a branch that sees the prompt and itself."""
        prompt = self.pieces.head("classify", self.names) + self.pieces.body(text)
        ids, positions, branch = list(prompt), list(range(len(prompt))), [0] * len(prompt)
        starts = []
        for n, path in enumerate(self.paths, 1):
            starts.append(len(ids))
            ids += path[:-1]
            positions += range(len(prompt), len(prompt) + len(path) - 1)
            branch += [n] * (len(path) - 1)
        b = torch.tensor(branch)
        allowed = ((b[None, :] == 0) | (b[None, :] == b[:, None])).tril()
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None]
        logits = model.logits(model(torch.tensor([ids]), torch.tensor([positions]), mask)[0])
        best = None
        for name, path, start in zip(self.names, self.paths, starts):
            score = 0.0
            for i, token in enumerate(path):
                options = sorted(self.children[path[:i]])
                if len(options) > 1:
                    row = logits[len(prompt) - 1 if i == 0 else start + i - 1]
                    score += float(row[options].log_softmax(-1)[options.index(token)])
            if best is None or score > best[0]:
                best = (score, name)
        return best[1]


def extract(model, pieces, text, names):
    """{field: value} by constrained greedy decoding."""
    session, found = Session(model), {}
    body = pieces.body(text)
    copied = body[1:-1]
    pending = pieces.head("extract", names) + body
    quote, null = pieces.quote[0], pieces.null[0]
    for i, name in enumerate(names):
        scores = session.feed(pending + list(pieces.key(name, i == 0)))
        if scores[null] >= scores[quote]:
            pending = [null]
            continue
        scores = session.feed([quote])
        value, places = [], list(range(len(copied)))  # where in the text the next token may stand
        while True:
            options = {copied[p] for p in places if p < len(copied)} | ({quote} if value else set())
            token = max(options, key=lambda t: float(scores[t]))
            if token == quote:
                break
            value.append(token)
            places = [p + 1 for p in places if p < len(copied) and copied[p] == token]
            scores = session.feed([token])
        pending = [quote]
        found[name] = pieces.tokenizer.decode(value).strip()
    return found


def sample(rows, limit):
    return rows if not limit or limit >= len(rows) else random.Random(0).sample(rows, limit)


def classify_accuracy(model, pieces, rows, labels):
    offered = Labels(pieces, [words(l) for l in labels])
    return sum(offered.choose(model, r["text"]) == words(r["label"]) for r in rows) / len(rows)


def extract_scores(model, pieces, rows, fields, misses=None):
    """Precision, recall and F1; a value is right when field and text are exactly those of the row (first occurrence)."""
    right = given = wanted = 0
    for r in rows:
        names = [words(f) for f in fields.get(r["label"], [])]
        truth = {}
        for s in sorted(r["spans"], key=lambda s: s["start"]):
            truth.setdefault(words(s["field"]), s["text"])
        found = extract(model, pieces, r["text"], names) if names else {}
        right += sum(truth.get(n) == v for n, v in found.items())
        given, wanted = given + len(found), wanted + len(truth)
        if misses is not None and found != truth:
            misses.append((r["text"], truth, found))
    p, r = right / max(given, 1), right / max(wanted, 1)
    return {"precision": round(p, 4), "recall": round(r, 4), "f1": round(2 * p * r / max(p + r, 1e-9), 4)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("run", type=Path)
    ap.add_argument("--data", type=Path, required=True, help="the training data: which labels and fields there are")
    ap.add_argument("--limit", type=int, default=300, help="rows of each set, 0 for all")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--show", type=int, default=0, help="print so many wrong extractions")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    model = load(a.run / "checkpoint.pt").settle()
    pieces = data.Pieces(Tokenizer.from_file(str(a.run / "tokenizer.json")))
    train, _ = data.split(a.data)
    for name in data.SETS:
        rows = sample(data.read(a.run / "heldout" / f"{name}.jsonl"), a.limit)
        labels = sorted({r["label"] for r in train[name]})
        if name == "clinc150":  # 150 labels are more than a prompt should hold: the true one among 15 others
            r, hits = random.Random(0), 0
            rows = [x for x in rows if x["label"] != "oos"]
            for x in rows:
                offered = r.sample([l for l in labels if l not in ("oos", x["label"])], 15) + [x["label"]]
                r.shuffle(offered)
                hits += classify_accuracy(model, pieces, [x], offered)
            print(json.dumps({"set": name, "rows": len(rows), "labels": 16, "accuracy": round(hits / len(rows), 4)}), flush=True)
            continue
        print(json.dumps({"set": name, "rows": len(rows), "labels": len(labels), "accuracy": round(classify_accuracy(model, pieces, rows, labels), 4)}), flush=True)
        fields = {}
        for row in train[name]:
            for s in row["spans"]:
                fields.setdefault(row["label"], {}).setdefault(s["field"])
        misses = []
        print(json.dumps({"set": name, "rows": len(rows), **extract_scores(model, pieces, rows, fields, misses)}), flush=True)
        for miss in misses[:a.show]:
            print("  ", *miss, sep=" | ")


if __name__ == "__main__":
    main()
