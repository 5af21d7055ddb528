"""The pocket model: BitNet b1.58's decoder in a page of PyTorch, quantisation-aware.

The maths is that of `transformers`' BitNetForCausalLM with `autobitlinear` linears: RMSNorm, rotary positions, grouped
queries, a norm inside the attention and inside the feed-forward (sub-norms), relu², embedding tied to the head.
`check_export.py` holds the two side by side.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab: int = 4096
    hidden: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 640
    context: int = 2048
    rope_theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


def ternary(w: torch.Tensor) -> torch.Tensor:
    """Weights to {-1, 0, 1} times their mean magnitude, one scale for the tensor."""
    w = w.float()
    scale = w.abs().mean().clamp(min=1e-5)
    return (w / scale).round().clamp(-1, 1) * scale


def int8(x: torch.Tensor) -> torch.Tensor:
    """Activations to 8 bits, one scale for each token. [..., features]"""
    s = 127 / x.float().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return ((x.float() * s).round().clamp(-128, 127) / s).to(x.dtype)


def fade(x: torch.Tensor, quantise, amount: float) -> torch.Tensor:
    """Goes forward with `amount` (0...1) of the quantised value and backward as if nothing had been quantised."""
    return x + amount * (quantise(x.detach()) - x.detach())


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x: [batch, heads, tokens, head_size]; cos, sin: [batch, 1, tokens, head_size]."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c, self.settled = c, False
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size

        def matrix(rows, columns, gain=1.0):
            return nn.Parameter(torch.randn(rows, columns) * gain / columns ** 0.5)

        small = (2 * c.layers) ** -0.5  # what is added to the residual stream starts small
        self.q, self.k, self.v = matrix(q, c.hidden), matrix(kv, c.hidden), matrix(kv, c.hidden)
        self.o = matrix(c.hidden, q, small)
        self.gate, self.up = matrix(c.ffn, c.hidden), matrix(c.ffn, c.hidden)
        self.down = matrix(c.hidden, c.ffn, small)
        self.attention_norm, self.attention_sub_norm = RMSNorm(c.hidden, c.eps), RMSNorm(q, c.eps)
        self.ffn_norm, self.ffn_sub_norm = RMSNorm(c.hidden, c.eps), RMSNorm(c.ffn, c.eps)

    def forward(self, x, cos, sin, mask, amount, cache=None):
        """x: [batch, tokens, hidden]; mask: [batch, 1, tokens, keys], added to the scores (0 or -inf)."""
        c, (batch, tokens, _) = self.c, x.shape

        def linear(h, *matrices):  # matrices that read the same input are one product
            w = matrices if self.settled else [fade(m, ternary, amount).to(h.dtype) for m in matrices]
            return F.linear(fade(h, int8, amount), torch.cat(w))

        qkv = linear(self.attention_norm(x), self.q, self.k, self.v)
        qkv = qkv.view(batch, tokens, -1, c.head_size).transpose(1, 2)      # [batch, heads + 2 kv_heads, tokens, head_size]
        q, k, v = qkv.split([c.heads, c.kv_heads, c.kv_heads], 1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        # Written out: with a mask of our own it is faster than the fused kernel on a CPU.
        a = torch.softmax((q @ k.mT) * c.head_size ** -0.5 + mask, -1) @ v  # [batch, heads, tokens, head_size]
        a = a.transpose(1, 2).reshape(batch, tokens, -1)
        x = x + linear(self.attention_sub_norm(a), self.o)

        gate, up = linear(self.ffn_norm(x), self.gate, self.up).chunk(2, -1)
        return x + linear(self.ffn_sub_norm(F.relu(gate).square() * up), self.down)


class LayerCache:
    """Keys and values of one layer, for decoding a token at a time."""

    def __init__(self):
        self.k = self.v = None

    def append(self, k, v):
        self.k = k if self.k is None else torch.cat((self.k, k), 2)
        self.v = v if self.v is None else torch.cat((self.v, v), 2)
        return self.k, self.v


class Pocket(nn.Module):
    block = Block

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embedding = nn.Parameter(torch.randn(c.vocab, c.hidden) * 0.02)
        self.blocks = nn.ModuleList(self.block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        frequency = c.rope_theta ** (-torch.arange(0, c.head_size, 2).float() / c.head_size)
        angle = torch.arange(c.context).float()[:, None] * torch.cat((frequency, frequency))
        self.register_buffer("cos", angle.cos(), persistent=False)          # [context, head_size]
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, positions, mask, amount=1.0, dtype=torch.float32, caches=None):
        """ids, positions: [batch, tokens]; mask: see Block; amount: of quantisation -> normed hidden states [batch, tokens, hidden] for `logits`."""
        x = F.embedding(ids, self.embedding).to(dtype)
        cos, sin = self.cos[positions][:, None].to(dtype), self.sin[positions][:, None].to(dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, amount, caches[i] if caches else None)
        return self.norm(x)

    def logits(self, h):
        return F.linear(h, self.embedding.to(h.dtype))

    @torch.no_grad()
    def settle(self):
        """Puts the ternary values in the place of the master weights, for evaluation: quantised once, not at every call."""
        for p in self.matrices():
            p.copy_(ternary(p))
        for block in self.blocks:
            block.settled = True
        return self

    def extra_loss(self):
        return 0.0

    def matrices(self):
        """The ternary weights: everything with two dimensions but the embedding."""
        return [p for b in self.blocks for p in (b.q, b.k, b.v, b.o, b.gate, b.up, b.down)]
