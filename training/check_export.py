"""Compares an exported folder, loaded by `transformers`, with the checkpoint it was made of (float32 both).

    python check_export.py RUN EXPORT
"""
import argparse
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import data
from export import load

TEXTS = ["pump 7 vibration 4.2 mm/s above limit on line B", "Größe überschritten: Füllstand 97 %, 漏水警报", "what's the weather in New York, NY next week?"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("run", type=Path)
    ap.add_argument("export", type=Path)
    a = ap.parse_args()
    ours = load(a.run / "checkpoint.pt")
    theirs = AutoModelForCausalLM.from_pretrained(a.export, dtype=torch.float32, attn_implementation="eager").eval()
    pieces = data.Pieces(Tokenizer.from_file(str(a.export / "tokenizer.json")))
    worst = 0.0
    for text in TEXTS:
        ids = pieces.head("extract", ["machine", "value", "place"]) + data.extract_branch(pieces, text, ["machine", "value", "place"], {"machine": (0, 6)})[0]
        n = len(ids)
        mask = torch.full((n, n), -torch.inf).triu(1)[None, None]
        with torch.no_grad():
            x = ours.logits(ours(torch.tensor([ids]), torch.arange(n)[None], mask))[0]
            y = theirs(torch.tensor([ids])).logits[0]
        error = float((x - y).norm() / y.norm())
        agree = float((x.argmax(-1) == y.argmax(-1)).float().mean())
        print(f"{n:4} tokens  relative error {error:.2e}  same best token {agree:.3f}")
        worst = max(worst, error)
    # an activation on a rounding boundary of int8 may fall to either side, hence not zero
    if worst > 2e-2:
        sys.exit("the export does not compute what training did")
    print("ok")


if __name__ == "__main__":
    main()
