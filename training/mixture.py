"""The pocket mixture: Mixtral's decoder in a page of PyTorch, in floats. What it is for: experts that are chosen by what the text is.

The maths is that of `transformers`' MixtralForCausalLM: RMSNorm, rotary positions, grouped queries, and in place of one feed-forward
`experts` small ones, of which a router picks `chosen` for each token and weighs them. `check_export.py` holds the two side by side.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from model import Config, Pocket, RMSNorm, rotate


@dataclass
class MixtureConfig(Config):
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    ffn: int = 96  # of one expert
    experts: int = 16
    chosen: int = 2


class Experts(nn.Module):
    def __init__(self, c: MixtureConfig):
        super().__init__()
        self.c = c
        small = (2 * c.layers) ** -0.5
        self.router = nn.Parameter(torch.randn(c.experts, c.hidden) * 0.02)
        self.gate = nn.Parameter(torch.randn(c.experts, c.ffn, c.hidden) / c.hidden ** 0.5)
        self.up = nn.Parameter(torch.randn(c.experts, c.ffn, c.hidden) / c.hidden ** 0.5)
        self.down = nn.Parameter(torch.randn(c.experts, c.hidden, c.ffn) * small / c.ffn ** 0.5)
        self.imbalance = torch.zeros(())

    def forward(self, x):
        """x: [tokens, hidden]. Tokens are sorted by expert, so that each expert is one product."""
        c = self.c
        scores = F.linear(x.float(), self.router).softmax(-1)                          # [tokens, experts]
        weights, chosen = scores.topk(c.chosen, -1)                                    # [tokens, chosen]
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        counts = torch.bincount(chosen.view(-1), minlength=c.experts)
        # 1 when all experts get as much as each other, `experts` when one gets all (Fedus et al. 2021, section 2.2).
        self.imbalance = c.experts * (counts / counts.sum() * scores.mean(0)).sum()
        order = chosen.view(-1).argsort(stable=True)                                   # pairs of token and expert, by expert
        token = order // c.chosen
        gate, up, down = (w.to(x.dtype) for w in (self.gate, self.up, self.down))
        out = [F.linear(F.silu(F.linear(h, gate[e])) * F.linear(h, up[e]), down[e]) for e, h in enumerate(x[token].split(counts.tolist()))]
        return torch.zeros_like(x).index_add(0, token, torch.cat(out) * weights.view(-1)[order, None])


class MixtureBlock(nn.Module):
    def __init__(self, c: MixtureConfig):
        super().__init__()
        self.c = c
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
        self.qkv = nn.Parameter(torch.randn(q + 2 * kv, c.hidden) / c.hidden ** 0.5)
        self.o = nn.Parameter(torch.randn(c.hidden, q) * (2 * c.layers) ** -0.5 / q ** 0.5)
        self.attention_norm, self.ffn_norm = RMSNorm(c.hidden, c.eps), RMSNorm(c.hidden, c.eps)
        self.experts = Experts(c)

    def forward(self, x, cos, sin, mask, amount, cache=None):
        """As `Block.forward`; there is nothing to quantise."""
        c, (batch, tokens, _) = self.c, x.shape
        qkv = F.linear(self.attention_norm(x), self.qkv.to(x.dtype)).view(batch, tokens, -1, c.head_size).transpose(1, 2)
        q, k, v = qkv.split([c.heads, c.kv_heads, c.kv_heads], 1)                      # [batch, heads, tokens, head_size]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = torch.softmax((q @ k.mT) * c.head_size ** -0.5 + mask, -1) @ v
        x = x + F.linear(a.transpose(1, 2).reshape(batch, tokens, -1), self.o.to(x.dtype))
        return x + self.experts(self.ffn_norm(x).view(-1, c.hidden)).view_as(x)


class Mixture(Pocket):
    block = MixtureBlock

    def matrices(self):
        return [p for b in self.blocks for p in (b.qkv, b.o, b.experts.gate, b.experts.up, b.experts.down)]

    def extra_loss(self):
        """Keeps some experts from getting everything; small, so that they may still differ in what they are for."""
        return 0.01 * torch.stack([b.experts.imbalance for b in self.blocks]).mean()

    def settle(self):
        return self


def hub_config(c: MixtureConfig) -> dict:
    return {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "dtype": "float32",
        "vocab_size": c.vocab, "hidden_size": c.hidden, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "max_position_embeddings": c.context,
        "num_local_experts": c.experts, "num_experts_per_tok": c.chosen, "sliding_window": None,
        "hidden_act": "silu", "rms_norm_eps": c.eps, "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "tie_word_embeddings": True, "attention_dropout": 0.0, "initializer_range": 0.02, "output_router_logits": False,
        "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0, "use_cache": True,
    }


def hub_state(model: Mixture) -> dict:
    c, state = model.c, {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.weight}
    q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
    for i, b in enumerate(model.blocks):
        to = f"model.layers.{i}."
        for name, p in zip("qkv", b.qkv.split([q, kv, kv])):
            state[f"{to}self_attn.{name}_proj.weight"] = p
        state[to + "self_attn.o_proj.weight"] = b.o
        state[to + "input_layernorm.weight"], state[to + "post_attention_layernorm.weight"] = b.attention_norm.weight, b.ffn_norm.weight
        state[to + "block_sparse_moe.gate.weight"] = b.experts.router
        for e in range(c.experts):
            for name, p in (("w1", b.experts.gate), ("w2", b.experts.down), ("w3", b.experts.up)):
                state[f"{to}block_sparse_moe.experts.{e}.{name}.weight"] = p[e]
    return {k: v.detach().float().contiguous().clone() for k, v in state.items()}
