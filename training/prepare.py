"""Splits the data into training and held-out parts and trains the tokenizer.

    python prepare.py --data DATA --out RUN

writes RUN/tokenizer.json and RUN/heldout/*.jsonl (rows that training never sees, for `sterna eval`).
"""
import argparse
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data
import gateway
from names import words

# Qwen 2's split: one digit at a time, so that a number is copied digit by digit and no number is a word of its own.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def corpus(train, r):
    for rows in train.values():
        for row in rows:
            yield row["text"]
    for _ in range(8000):
        yield gateway.message(r)[0]
    # Names stand at the start of a piece, without a space; never write them with the separator here: `|word` must
    # stay two tokens, so that a label is spelt alike in the list and in the answer.
    names = {words(row["label"]) for rows in train.values() for row in rows}
    names |= {words(s["field"]) for rows in train.values() for row in rows for s in row.get("spans", [])}
    names |= {n for group in (*gateway.NAMES.values(), *gateway.LABELS.values()) for n in group} | set(data.NONE_OF_THESE)
    for name in sorted(names):
        for _ in range(40):
            yield name
        for _ in range(10):
            yield f'{{"{name}":null,"{name}":null}}'


def train_tokenizer(texts, vocab: int) -> Tokenizer:
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern=Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=data.SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=Path, required=True, help="folder with snips.train.jsonl, hwu64.train.jsonl, clinc150.*.jsonl")
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--vocab", type=int, default=4096)
    a = ap.parse_args()
    train, held = data.split(a.data)
    (a.out / "heldout").mkdir(parents=True, exist_ok=True)
    for name, rows in held.items():
        with open(a.out / "heldout" / f"{name}.jsonl", "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}: {len(train[name])} rows to train on, {len(rows)} held out")
    tokenizer = train_tokenizer(corpus(train, random.Random(0)), a.vocab)
    tokenizer.save(str(a.out / "tokenizer.json"))
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
