"""Trains the pocket model within a given time.

    python train.py --data DATA --run RUN --hours 1.6        (after prepare.py --out RUN)
    python train.py --data DATA --run RUN --resume           (goes on after an interruption, with the time that was left)

Progress is measured on the clock, so the run ends when it should, whatever else the machine does. Quantisation fades in
between a quarter and a half of the run; the learning rate falls to zero over the last 60 %, which ternary weights need:
they settle only when the steps become small.
"""
import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

# Threads that wait for each other sleep instead of spinning: beside other programs that made 2,800 tokens/s of 900.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
from export import make
from mixture import MixtureConfig
from model import Config


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan 2024): for the matrices, about twice as far per token as Adam."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            shapes = {}
            for p in g["params"]:
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - g["momentum"])
                shapes.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(m, g["momentum"])))
            for (*_, rows, columns), same in shapes.items():
                update = orthogonal(torch.stack([u for _, u in same])).float() * max(1, rows / columns) ** 0.5
                for (p, _), u in zip(same, update):
                    p.mul_(1 - g["lr"] * g["weight_decay"]).add_(u, alpha=-g["lr"])


def orthogonal(m: torch.Tensor) -> torch.Tensor:
    """[..., rows, columns] with all singular values pushed to about 1, by a quintic Newton-Schulz iteration."""
    x = m.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.mT if tall else x


def quantisation(progress: float) -> float:
    return min(1.0, max(0.0, (progress - 0.25) / 0.25))


def learning_rate(progress: float) -> float:
    return min(1.0, progress / 0.01, max(0.0, (1 - progress) / 0.6))


def attention_bias(group, branch, dtype):
    """[rows, 1, row, row]: causal, within a group, from a branch to the head and itself."""
    row = group.shape[1]
    same = group[:, :, None] == group[:, None, :]
    reach = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    allowed = (same & reach).tril()
    return torch.zeros(allowed.shape, dtype=dtype, device=group.device).masked_fill_(~allowed, -torch.inf).unsqueeze(1)


def save(path: Path, **state):
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=Path, required=True)
    ap.add_argument("--run", type=Path, required=True, help="folder with tokenizer.json; checkpoints and log go there")
    ap.add_argument("--hours", type=float, default=1.6)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rows", type=int, default=8, help="rows in a batch")
    ap.add_argument("--row", type=int, default=512, help="tokens in a row")
    ap.add_argument("--lr", type=float, default=0.02, help="of the matrices (Muon)")
    ap.add_argument("--lr-embedding", type=float, default=3e-3, help="of embedding and norms (Adam)")
    ap.add_argument("--weight-decay", type=float, default=0.05)
    ap.add_argument("--text-weight", type=float, default=0.05, help="loss weight of the text's own tokens, first half of the run")
    ap.add_argument("--compile", action="store_true", help="a fifth faster after a minute of compiling; needs a C++ compiler")
    ap.add_argument("--save-minutes", type=float, default=5)
    ap.add_argument("--mixture", action="store_true", help="a mixture of experts, in floats, in place of a ternary model")
    kind = MixtureConfig if ap.parse_known_args()[0].mixture else Config
    for name, value in asdict(kind()).items():
        if name not in ("eps", "vocab"):
            ap.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    tokenizer = Tokenizer.from_file(str(a.run / "tokenizer.json"))
    path = a.run / "checkpoint.pt"
    old = torch.load(path, map_location="cpu", weights_only=False) if a.resume else None
    model = make(old["config"] if old else {"vocab": tokenizer.get_vocab_size(), **{k: getattr(a, k) for k in asdict(kind()) if k not in ("eps", "vocab")}}).to(device)
    config = model.c
    matrices = model.matrices()
    is_matrix = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in is_matrix]
    optimizers = [Muon(matrices, a.lr, weight_decay=a.weight_decay), torch.optim.AdamW(others, a.lr_embedding, betas=(0.9, 0.98), weight_decay=0.0)]
    step, tokens, before, budget = 0, 0, 0.0, a.hours * 3600
    if old:
        model.load_state_dict(old["model"])
        for o, s in zip(optimizers, old["optimizers"]):
            o.load_state_dict(s)
        step, tokens, before, budget = old["step"], old["tokens"], old["seconds"], old["budget"]
    print(json.dumps({"weights": sum(p.numel() for p in matrices), "config": asdict(config), "resumed at step": step}), flush=True)

    start = time.monotonic()
    seconds = lambda: before + time.monotonic() - start
    stream = data.Stream(a.data, tokenizer, a.seed + 1000 * step, a.row, a.rows)
    progress = lambda: min(1.0, seconds() / budget)
    following = data.prefetch(lambda: stream.batch(progress(), a.text_weight if progress() < 0.5 else 0.0))
    forward = torch.compile(model, dynamic=False) if a.compile else model
    log, sums, saved, shown = open(a.run / "log.jsonl", "a"), {}, seconds(), seconds()
    shown_tokens = tokens

    def checkpoint():
        save(path, model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers], config=asdict(config), step=step,
             tokens=tokens, seconds=seconds(), budget=budget, args={k: str(v) for k, v in vars(a).items()})

    while (p := progress()) < 1:
        ids, positions, group, branch, target, weight = (torch.from_numpy(x).to(device) for x in following())
        amount = torch.tensor(quantisation(p), device=device)
        bias = attention_bias(group, branch, torch.bfloat16)
        h = forward(ids, positions, bias, amount, torch.bfloat16)
        counted = weight.view(-1).nonzero().squeeze(1)          # the head is computed only where there is a loss
        t, w = target.view(-1)[counted], weight.view(-1)[counted]
        logits = model.logits(h.reshape(-1, config.hidden)[counted]).float()
        losses = F.cross_entropy(logits, t, reduction="none")
        loss = (losses * w).sum() / w.sum()
        (loss + model.extra_loss()).backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for o, lr in zip(optimizers, (a.lr, a.lr_embedding)):
            for g in o.param_groups:
                g["lr"] = lr * learning_rate(p)
            o.step()
            o.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + int((group >= 0).sum())

        right = logits.argmax(-1) == t
        for name, value in (("label", data.LABEL), ("decision", data.DECISION), ("first", data.FIRST), ("rest", data.REST), ("close", data.CLOSE)):
            chosen = (w - value).abs() < 1e-6
            n, k = sums.get(name, (0, 0))
            sums[name] = (n + int(chosen.sum()), k + int(right[chosen].sum()))
        if step % 50 == 0:
            now = seconds()
            line = {"step": step, "minutes": round(now / 60, 1), "progress": round(p, 3), "tokens": tokens, "tokens/s": round((tokens - shown_tokens) / (now - shown)),
                    "loss": round(loss.item(), 3), **{k: round(v / max(n, 1), 3) for k, (n, v) in sums.items()}, "q": round(float(amount), 2)}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
            sums, shown, shown_tokens = {}, now, tokens
        if seconds() - saved > 60 * a.save_minutes:
            checkpoint()
            saved = seconds()
    checkpoint()
    print("done", flush=True)


if __name__ == "__main__":
    main()
