"""What rounding the experts of a mixture changes by itself, in `transformers`: which tokens get other experts, and how far their logits move.

    venv/bin/python Benchmarks/router_ties.py MODEL ...     a folder each, with expected.json; packages as in training/requirements.txt

For weights in Q8_0, for activations in int8 with a scale for each 32, and for both; all else is float32. A line is one position that was compared: its
relative error, and where its token got other experts, what a router decided by, before rounding: the last expert chosen and the first left out.
"""
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM


def groups(x):
    """[..., columns] as [groups, 32], with zeros behind the last column."""
    return F.pad(x.float(), (0, -x.shape[-1] % 32)).reshape(-1, 32)


def put_back(g, x):
    return g.reshape(*x.shape[:-1], -1)[..., :x.shape[-1]]


def q8_0(w):
    g = groups(w)
    d = g.abs().amax(-1, keepdim=True) / 127
    x = g / d.clamp(min=1e-30)
    return put_back(torch.sign(x) * (x.abs() + 0.5).floor() * d.half().float(), w)


def int8(x):
    g = groups(x)
    d = g.abs().amax(-1, keepdim=True) / 127
    return put_back((g / d.clamp(min=1e-30)).round() * d, x)


class Mixture:
    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.exact = {n: v.clone() for n, v in self.model.state_dict().items()}
        self.rounded = {n: q8_0(v) if ".experts." in n else v for n, v in self.exact.items()}
        self.logits, self.rounds_activations = [], False
        for name, module in self.model.named_modules():
            if name.endswith(".experts"):
                module.forward = self.experts.__get__(module)
            elif name.endswith(".gate"):
                module.register_forward_hook(self.note)

    def note(self, router, inputs, _):
        z = F.linear(inputs[0].flatten(0, -2), router.weight)
        bias = getattr(router, "e_score_correction_bias", None)
        self.logits.append(z if bias is None else z.sigmoid() + bias)

    @property
    def experts(self):
        mixture = self

        def forward(self, h, chosen, weights):
            """The experts of each token one by one, their inputs rounded where that is asked for."""
            out, rounded = torch.zeros_like(h), int8 if mixture.rounds_activations else lambda x: x
            for t in range(len(h)):
                for e, w in zip(chosen[t].tolist(), weights[t]):
                    gate, up = F.linear(rounded(h[t]), self.gate_up_proj[e]).chunk(2, -1)
                    out[t] += w * F.linear(rounded(F.silu(gate) * up), self.down_proj[e])
            return out
        return forward

    def run(self, ids, weights, activations):
        self.model.load_state_dict(self.rounded if weights else self.exact)
        self.rounds_activations, self.logits = activations, []
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0], torch.stack(self.logits, 1)   # [tokens, vocabulary], [tokens, blocks, experts]


def main():
    for folder in sys.argv[1:]:
        mixture = Mixture(folder)
        k = mixture.model.config.num_experts_per_tok
        for case in json.loads((Path(folder) / "expected.json").read_text())["cases"]:
            exact, before = mixture.run(case["ids"], False, False)
            for weights, activations in ((False, False), (True, False), (False, True), (True, True)):
                logits, after = mixture.run(case["ids"], weights, activations)
                others = (before.topk(k).indices.sort(-1).values != after.topk(k).indices.sort(-1).values).any(-1)    # [tokens, blocks]
                what = " and ".join(w for w, on in (("weights", weights), ("activations", activations)) if on) or "nothing"
                for position, wanted in case["logits"].items():
                    p, wanted = int(position), torch.tensor(wanted)
                    ties = [tuple(round(v, 3) for v in before[p, b].topk(k + 1).values[-2:].tolist()) for b in others[p].nonzero().flatten()]
                    print(f"{Path(folder).name:12} {what:24} position {p:3} of {len(case['ids']):3}  {(logits[p] - wanted).norm() / wanted.norm():.1e}", *ties)
                print(f"{Path(folder).name:12} {what:24} {int(others.any(-1).sum())} of {len(others)} tokens with other experts")


if __name__ == "__main__":
    main()
