"""Training data: rows of the public sets and of generators, woven into packed batches.

A sequence is a *prompt head* (the task and the labels or fields on offer) and a text with its answer:

    <|classify|>label a|label b<|text|>...<|answer|>label b<|end|>
    <|extract|>field a|field b<|text|>...<|answer|>{"field a":"...","field b":null}<|end|>

Every quoted piece is tokenised on its own, as the agent does it. Heads are long (64 labels are some 250 tokens) and
answers short, so several texts share one head: each text and its answer is a *branch* that sees the head and itself, at
the positions it would have alone. That is the same arithmetic as separate sequences and costs less than half of the tokens.
"""
import functools
import hashlib
import json
import queue
import random
import re
import string
import threading
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import gateway
from names import words

END, CLASSIFY, EXTRACT, TEXT, ANSWER = "<|end|>", "<|classify|>", "<|extract|>", "<|text|>", "<|answer|>"
SPECIAL = [END, CLASSIFY, EXTRACT, TEXT, ANSWER]  # ids 0 to 4
SETS = ("snips", "hwu64", "clinc150")
NONE_OF_THESE = ("none of these", "out of scope", "something else", "other")

# --- rows ---------------------------------------------------------------------------------------------------------


def read(path: Path):
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f if line.strip()]
    for row in rows:
        row.setdefault("spans", [])
    return rows


def held_out(text: str) -> bool:
    """A tenth of all texts, the same tenth on every machine; copies that differ in case stay together."""
    return int(hashlib.sha256(text.strip().lower().encode()).hexdigest()[:8], 16) % 10 == 0


def split(folder: Path):
    """({set: rows to train on}, {set: rows that training never sees})."""
    train, held = {}, {}
    for name in ("snips", "hwu64"):
        rows = read(folder / f"{name}.train.jsonl")
        train[name] = [r for r in rows if not held_out(r["text"])]
        held[name] = [r for r in rows if held_out(r["text"])]
    train["clinc150"], held["clinc150"] = read(folder / "clinc150.train.jsonl"), read(folder / "clinc150.valid.jsonl")
    kept_back = {r["text"].strip().lower() for rows in held.values() for r in rows}
    for name in SETS:
        train[name] = [r for r in train[name] if r["text"].strip().lower() not in kept_back]
    return train, held


# --- pieces -------------------------------------------------------------------------------------------------------


class Pieces:
    """Turns the pieces of a prompt into ids."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.ids = functools.lru_cache(200_000)(lambda piece: tuple(tokenizer.encode(piece, add_special_tokens=False).ids))
        self.end, self.classify, self.extract, self.text, self.answer = (tokenizer.token_to_id(s) for s in SPECIAL)
        self.quote, self.null, self.space = self.ids('"'), self.ids("null"), self.ids(" ")[0]

    def head(self, task: str, names: list[str]) -> list[int]:
        return [self.classify if task == "classify" else self.extract, *self.ids("|".join(names))]

    def body(self, text: str) -> list[int]:
        # not cached: augmented texts hardly repeat
        return [self.text, *self.tokenizer.encode(text, add_special_tokens=False).ids, self.answer]

    def key(self, name: str, first: bool) -> tuple[int, ...]:
        return self.ids(("{" if first else ",") + json.dumps(name, ensure_ascii=False) + ":")

    def value(self, text: str, start: int, end: int) -> tuple[int, ...]:
        """The ids that stand in the text itself: with the space in front, if there is one."""
        escaped = json.dumps(text[start:end], ensure_ascii=False)[1:-1]
        return self.ids((" " if start > 0 and text[start - 1] == " " else "") + escaped)


# --- what counts ----------------------------------------------------------------------------------------------------
# Loss weights of answer tokens. Forced tokens (keys, colons, braces) cost nothing: the agent writes them itself.

LABEL, LABEL_END = 2.0, 0.3
DECISION, FIRST, REST, CLOSE = 1.0, 1.5, 0.6, 0.9


def classify_branch(p: Pieces, text: str, label: str):
    answer = p.ids(label)
    ids = p.body(text)
    weights = [0.0] * len(ids) + [LABEL] * len(answer) + [LABEL_END]
    return [*ids, *answer, p.end], weights


def extract_branch(p: Pieces, text: str, names: list[str], found: dict[str, tuple[int, int]]):
    ids = p.body(text)
    weights = [0.0] * len(ids)

    def add(tokens, first, rest):
        ids.extend(tokens)
        weights.extend([first] + [rest] * (len(tokens) - 1))

    for i, name in enumerate(names):
        add(p.key(name, i == 0), 0, 0)
        if name in found:
            add(p.quote, DECISION, 0)
            value = p.value(text, *found[name])
            add(value, FIRST, REST)
            if value[0] == p.space and len(value) > 1:  # " 7" is a space and a digit: the digit says which number it is
                weights[1 - len(value)] = FIRST
            add(p.quote, CLOSE, 0)
        else:
            add(p.null, DECISION, 0)
    add(p.ids("}"), 0, 0)
    return [*ids, p.end], [*weights, 0.0]


# --- tasks ----------------------------------------------------------------------------------------------------------
# A task makes heads and, for a head, any number of branches.


def drop_word(r: random.Random, text: str) -> str:
    parts = text.split(" ")
    if len(parts) > 4:
        del parts[r.randrange(len(parts))]
    return " ".join(parts)


class Slots:
    """The spans of one set, and other values that could stand in their place."""

    def __init__(self, rows, lexicon):
        self.values, self.lexicon = {}, lexicon
        for row in rows:
            for s in row["spans"]:
                self.values.setdefault(s["field"], set()).add(s["text"])
        self.values = {field: sorted(v) for field, v in self.values.items()}

    def swap(self, r: random.Random, row):
        """The row with values exchanged, so that position and surroundings must be learnt, and copying, not memory."""
        text, spans, at = "", [], 0
        for s in sorted(row["spans"], key=lambda s: s["start"]):
            if s["start"] < at:
                return row
            pool, value = self.values[s["field"]], s["text"]
            if r.random() < 0.6:
                value = r.choice(pool)
                if len(pool) > 100 and r.random() < 0.15:  # open fields: anything may be a name
                    value = " ".join(r.choices(self.lexicon, k=r.choice((1, 2, 2, 3, 4))))
                    value = value.title() if s["text"][:1].isupper() else value
            text += row["text"][at:s["start"]]
            spans.append({"field": s["field"], "text": value, "start": len(text), "end": len(text) + len(value)})
            text += value
            at = s["end"]
        return {**row, "text": text + row["text"][at:], "spans": spans}


def lower(r, row, chance):
    if r.random() < chance and len(row["text"].lower()) == len(row["text"]):
        row = {**row, "text": row["text"].lower()}
    return row


class ClassifySet:
    """Intents of one public set; the labels on offer are all of them or a random subset."""

    def __init__(self, rows, slots, full: float):
        self.rows, self.slots, self.full = rows, slots, full
        self.by_label = {}
        for row in rows:
            self.by_label.setdefault(row["label"], []).append(row)
        self.labels = sorted(l for l in self.by_label if l != "oos")

    def head(self, r):
        n = len(self.labels)
        if n <= 64 and r.random() < self.full:
            offered = self.labels[:]
        else:
            count = r.choice((2, 3, 4, 5, 6, 8, 10, 12, 16, 16, 24, 32, 48, 64))
            offered = r.sample(self.labels, min(count, n))
        r.shuffle(offered)
        none = r.choice(NONE_OF_THESE) if r.random() < (0.5 if "oos" in self.by_label else 0.08) else None
        names = [words(l) for l in offered]
        if none:
            names.insert(r.randrange(len(names) + 1), none)
        every = len(offered) == n
        choose = [row for l in offered for row in self.by_label[l]] if len(offered) < 12 else None

        def branch():
            if none and r.random() < 0.3:
                row = r.choice(self.by_label["oos"]) if "oos" in self.by_label and (every or r.random() < 0.5) else r.choice(self.rows)
                answer = words(row["label"]) if row["label"] in offered else none
            else:
                if every and r.random() < 0.6:
                    row = r.choice(self.rows)
                    if row["label"] == "oos":
                        return None
                elif choose and r.random() < 0.5:
                    row = r.choice(choose)
                else:
                    row = r.choice(self.by_label[r.choice(offered)])
                answer = words(row["label"])
            if self.slots and r.random() < 0.3:
                row = self.slots.swap(r, row)
            text = lower(r, row, 0.1)["text"]
            return drop_word(r, text) if r.random() < 0.15 else text, answer
        return names, branch


class ClassifyMixed:
    """Labels of all sets in one list; those of the same name are one label."""

    def __init__(self, sets):
        self.by_label = {}
        for s in sets:
            for label, rows in s.by_label.items():
                if label != "oos":
                    self.by_label.setdefault(words(label), []).extend(rows)
        self.labels = sorted(self.by_label)

    def head(self, r):
        offered = r.sample(self.labels, r.choice((2, 3, 4, 6, 8, 12, 16, 24)))

        def branch():
            label = r.choice(offered)
            return lower(r, r.choice(self.by_label[label]), 0.1)["text"], label
        return offered, branch


class ClassifyGateway:
    def head(self, r):
        kinds = r.sample(list(gateway.TEMPLATES), r.randint(2, len(gateway.TEMPLATES)))
        names = [r.choice(gateway.LABELS[k]) for k in kinds]
        none = r.choice(NONE_OF_THESE) if r.random() < 0.15 else None
        if none:
            names.insert(r.randrange(len(names) + 1), none)
        called = dict(zip(kinds, (n for n in names if n != none)))

        def branch():
            text, kind, _ = gateway.message(r)
            answer = called.get(kind, none)
            return (text, answer) if answer else None
        return names, branch


class ExtractSet:
    """Slots of one public set; the fields on offer are those of an intent, or some of them and strangers."""

    def __init__(self, rows, slots):
        self.rows, self.slots, self.by_label, self.fields = rows, slots, {}, {}
        for row in rows:
            self.by_label.setdefault(row["label"], []).append(row)
            self.fields.setdefault(row["label"], set()).update(s["field"] for s in row["spans"])
        self.fields = {l: sorted(f) for l, f in self.fields.items()}
        self.labels = [l for l in self.by_label if self.fields[l]]
        # an intent is asked for as often as its rows have spans, damped, and more when it has many fields
        self.weights = [(sum(len(x["spans"]) for x in self.by_label[l]) + 10) ** 0.7 for l in self.labels]
        self.with_spans = {l: [x for x in rows if x["spans"]] for l, rows in self.by_label.items()}
        self.strangers = sorted(self.slots.values)

    def head(self, r):
        label = r.choices(self.labels, self.weights)[0]
        fields = self.fields[label][:]
        if r.random() > 0.65:
            fields = r.sample(fields, r.randint(1, len(fields)))
            if r.random() < 0.3:
                fields += [f for f in r.sample(self.strangers, 2) if f not in self.fields[label]]
        r.shuffle(fields)
        names = [words(f) for f in fields]

        def branch():
            row = r.choice(self.with_spans[label] if r.random() < 0.6 else self.by_label[label])
            if r.random() < 0.45:
                row = self.slots.swap(r, row)
            row = lower(r, row, 0.12)
            found = {}
            for s in sorted(row["spans"], key=lambda s: s["start"]):
                found.setdefault(words(s["field"]), (s["start"], s["end"]))
            return row["text"], found
        return names, branch


class ExtractGateway:
    def head(self, r):
        _, _, spans = gateway.message(r)
        concepts = list(dict.fromkeys("reading" if f in gateway.READINGS and r.random() < 0.7 else f for f, _, _ in spans))
        concepts += [c for c in r.sample(list(gateway.NAMES), r.randint(0, 3)) if c not in concepts]
        if not concepts:
            concepts = ["machine", "place"]
        r.shuffle(concepts)
        names = {}
        for c in concepts[:6]:
            name = gateway.NAMES[c][0] if r.random() < 0.5 else r.choice(gateway.NAMES[c])
            if name not in names:
                names[name] = c

        def branch():
            for _ in range(12):  # most messages should contain something of what is asked
                text, _, spans = gateway.message(r)
                found = {}
                for name, c in names.items():
                    for field, a, b in spans:
                        if field == c or c == "reading" and field in gateway.READINGS:
                            found[name] = (a, b)
                            break
                if len(found) >= min(2, len(names)) or r.random() < 0.1:
                    break
            return text, found
        return list(names), branch


class Copying:
    """Values to copy and nothing to understand: what a model must learn first before it can fill slots at all."""

    def __init__(self, lexicon):
        self.lexicon = lexicon

    def word(self, r):
        if r.random() < 0.7:
            return r.choice(self.lexicon)
        return "".join(r.choices(r.choice((string.digits, string.ascii_lowercase, string.ascii_uppercase + string.digits)), k=r.randint(1, 6)))

    def phrase(self, r, most):
        w = " ".join(self.word(r) for _ in range(r.randint(1, most)))
        return w.title() if r.random() < 0.15 else w

    def head(self, r):
        style = r.choice(("pairs", "pairs", "after"))
        keys = list(dict.fromkeys(r.choice(self.lexicon) for _ in range(r.randint(2, 6))))
        asked = r.sample(keys, r.randint(1, len(keys)))
        names = [k if style == "pairs" else "after " + k for k in asked]
        link, gap = r.choice((": ", " = ", " is ", " ")), r.choice((", ", "; ", " and ", " - "))

        def branch():
            text, found = "", {}
            present = [k for k in keys if r.random() < 0.75] or keys[:1]
            r.shuffle(present)
            for i, k in enumerate(present):
                if style == "pairs":
                    text += gap if i else ""
                else:
                    text += "".join(self.word(r) + " " for _ in range(r.randint(0, 2)))
                text += k + (link if style == "pairs" else " ")
                value = self.phrase(r, 4 if style == "pairs" else 1)
                if k in asked:
                    found[names[asked.index(k)]] = (len(text), len(text) + len(value))
                text += value + (" " if style == "after" else "")
            return text.rstrip(), found
        return names, branch


# --- packing ----------------------------------------------------------------------------------------------------------


class Stream:
    """Endless packed batches. What share of the tokens a task gets depends on how far training is (0...1)."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, seed: int, row: int, rows: int):
        train, _ = split(folder)
        self.r, self.p, self.row, self.rows = random.Random(seed), Pieces(tokenizer), row, rows
        lexicon = sorted({w for rows in train.values() for x in rows for w in re.findall(r"[^\W_]+", x["text"].lower())})
        slots = {name: Slots(train[name], lexicon) for name in ("snips", "hwu64")}
        classify = {name: ClassifySet(train[name], slots.get(name), full) for name, full in (("snips", 0.6), ("hwu64", 0.5), ("clinc150", 0))}
        self.tasks = {
            "copying": ("extract", Copying(lexicon)),
            "extract snips": ("extract", ExtractSet(train["snips"], slots["snips"])),
            "extract hwu64": ("extract", ExtractSet(train["hwu64"], slots["hwu64"])),
            "extract gateway": ("extract", ExtractGateway()),
            "classify snips": ("classify", classify["snips"]),
            "classify hwu64": ("classify", classify["hwu64"]),
            "classify clinc150": ("classify", classify["clinc150"]),
            "classify mixed": ("classify", ClassifyMixed(classify.values())),
            "classify gateway": ("classify", ClassifyGateway()),
        }
        self.used = dict.fromkeys(self.tasks, 0)

    @staticmethod
    def shares(progress: float):
        copying = max(0.04, 0.5 * (1 - progress / 0.15))
        rest = {"extract snips": 0.36, "extract hwu64": 0.13, "extract gateway": 0.11, "classify snips": 0.05, "classify hwu64": 0.19,
                "classify clinc150": 0.08, "classify mixed": 0.03, "classify gateway": 0.05}
        return {"copying": copying, **{k: v * (1 - copying) for k, v in rest.items()}}

    def group(self, task: str, space: int):
        """A head and branches that fit into `space`: [(ids, weights)], the head first, or nothing."""
        kind, source = self.tasks[task]
        for _ in range(4):
            names, branch = source.head(self.r)
            head = self.p.head(kind, names)
            if len(head) < 0.6 * space:
                break
        else:
            return []
        out, used, failed = [(head, [0.0] * len(head))], len(head), 0
        most = 5 if kind == "extract" else 8 + len(names) // 6
        while len(out) <= most and failed < 6:
            made = branch()
            if made is None:
                failed += 1
                continue
            text, answer = made
            ids, weights = classify_branch(self.p, text, answer) if kind == "classify" else extract_branch(self.p, text, names, answer)
            if used + len(ids) > space:
                failed += 3
                continue
            out.append((ids, weights))
            used += len(ids)
        return out if len(out) > 1 else []

    def batch(self, progress: float, text_weight: float):
        """Arrays [rows, row]: ids, positions, group (-1: padding), branch (0: head), target, weight."""
        shape = (self.rows, self.row)
        ids, positions, target = (np.zeros(shape, np.int64) for _ in range(3))
        group, branch, weight = np.full(shape, -1, np.int16), np.zeros(shape, np.int16), np.zeros(shape, np.float32)
        shares = self.shares(progress)
        for b in range(self.rows):
            at, groups, misses = 0, 0, 0
            while self.row - at > 50 and misses < 6:
                # the task that lags most behind its share; after a miss (did not fit) any other one
                total = sum(self.used.values()) + 1
                task = max(shares, key=lambda t: shares[t] - self.used[t] / total) if misses == 0 else self.r.choice(list(shares))
                parts = self.group(task, self.row - at)
                if not parts:
                    misses += 1
                    continue
                start, head = at, len(parts[0][0])
                for n, (part, w) in enumerate(parts):
                    end = at + len(part)
                    ids[b, at:end], group[b, at:end], branch[b, at:end] = part, groups, n
                    positions[b, at:end] = np.arange(len(part)) + (head if n else 0)
                    target[b, at:end - 1], weight[b, at:end - 1] = part[1:], w[1:]
                    if n and text_weight:
                        body = part.index(self.p.answer)
                        weight[b, at:at + body] = text_weight
                    at = end
                self.used[task] += at - start
                groups += 1
        for t in self.used:  # forget slowly, so that changing shares are followed
            self.used[t] *= 0.98
        return ids, positions, group, branch, target, weight


def prefetch(make, depth=4):
    """Runs `make` in a thread of its own, a few results ahead."""
    q = queue.Queue(depth)

    def work():
        while True:
            q.put(make())
    threading.Thread(target=work, daemon=True).start()
    return q.get
