#!/usr/bin/env python3
"""Writes a GGUF for llama.cpp with the shapes of a mixture of experts and random weights: the peer of `sterna dummy SHAPE --layers N`.

    write_peer_moe.py qwen3-30b-a3b -o peer.gguf [--layers N]

Experts in Q4_0, all other matrices in Q8_0, router and norms in F32, as Sterna stores them by default. Blocks are drawn as random bytes with the scales that
`sterna dummy` gives them, so that experts are chosen nearly evenly in both.
"""
import argparse
import math
import sys

try:
    import gguf
    import numpy as np
except ImportError as missing:
    sys.exit(f"write_peer_moe.py: {missing.name} is missing: pip install -r Benchmarks/peer/requirements.txt")

import write_peer

SHAPES = {
    "qwen3-30b-a3b": dict(architecture="qwen3moe", layers=48, hidden=2048, heads=32, kv_heads=4, head=128, experts=128, chosen=8, size=768, shared=0,
                          feed_forward=6144, vocabulary=151_936, context=40_960, theta=1e6, epsilon=1e-6),
    "qwen1.5-moe-a2.7b": dict(architecture="qwen2moe", layers=24, hidden=2048, heads=16, kv_heads=16, head=128, experts=60, chosen=4, size=1408, shared=5632,
                              feed_forward=5632, vocabulary=151_936, context=8192, theta=1e6, epsilon=1e-6),
    "olmoe": dict(architecture="olmoe", layers=16, hidden=2048, heads=16, kv_heads=16, head=128, experts=64, chosen=8, size=1024, shared=0,
                  feed_forward=1024, vocabulary=50_304, context=4096, theta=1e4, epsilon=1e-5),
}
SLAB = 64 << 20  # bytes drawn at a time
Q4_0, Q8_0, F32 = (gguf.GGMLQuantizationType[name] for name in ("Q4_0", "Q8_0", "F32"))
BYTES = {Q4_0: 18, Q8_0: 34}  # of a block of 32
DEVIATION = {Q4_0: 4.64, Q8_0: 73.9}  # root mean square of random codes


def tensors(s):
    """(name, type, shape with the columns last, size of what the matrix gives for values of size 1)."""
    hidden, back = s["hidden"], 0.15 / math.sqrt(s["hidden"])  # what goes back into the residual stream: a tenth of the embeddings
    queries, keys = s["heads"] * s["head"], s["kv_heads"] * s["head"]
    yield "token_embd.weight", Q8_0, (s["vocabulary"], hidden), 1.5
    for i in range(s["layers"]):
        block = f"blk.{i}."
        yield block + "attn_norm.weight", F32, (hidden,), None
        for name, rows in [("q", queries), ("k", keys), ("v", keys)]:
            yield block + f"attn_{name}.weight", Q8_0, (rows, hidden), 1
            if s["architecture"] == "qwen2moe":
                yield block + f"attn_{name}.bias", F32, (rows,), None
        norms = {"qwen3moe": (s["head"], s["head"]), "olmoe": (queries, keys)}.get(s["architecture"])
        if norms:
            yield block + "attn_q_norm.weight", F32, (norms[0],), None
            yield block + "attn_k_norm.weight", F32, (norms[1],), None
        yield block + "attn_output.weight", Q8_0, (hidden, queries), back
        yield block + "ffn_norm.weight", F32, (hidden,), None
        yield block + "ffn_gate_inp.weight", F32, (s["experts"], hidden), 1
        yield block + "ffn_gate_exps.weight", Q4_0, (s["experts"], s["size"], hidden), 1
        yield block + "ffn_up_exps.weight", Q4_0, (s["experts"], s["size"], hidden), 1
        yield block + "ffn_down_exps.weight", Q4_0, (s["experts"], hidden, s["size"]), back
        if s["shared"]:
            yield block + "ffn_gate_inp_shexp.weight", F32, (hidden,), None
            yield block + "ffn_gate_shexp.weight", Q8_0, (s["shared"], hidden), 1
            yield block + "ffn_up_shexp.weight", Q8_0, (s["shared"], hidden), 1
            yield block + "ffn_down_shexp.weight", Q8_0, (hidden, s["shared"]), back
    yield "output_norm.weight", F32, (hidden,), None
    yield "output.weight", Q8_0, (s["vocabulary"], hidden), 1.5


def write_data(out, random, kind, shape, gain):
    if kind == F32:
        values = np.ones(shape, np.float32) if gain is None else random.standard_normal(shape, np.float32) / math.sqrt(shape[-1])
        out.write(values.tobytes())
        return
    scale = np.float16(gain / math.sqrt(shape[-1]) / DEVIATION[kind])
    scales = np.array([[scale], [-scale]], np.float16).view(np.uint8)  # of either sign, since the mean of all codes is not zero
    left = math.prod(shape) // 32
    while left > 0:
        count = min(left, SLAB // BYTES[kind])
        blocks = np.frombuffer(random.bytes(count * BYTES[kind]), np.uint8).reshape(count, -1).copy()
        blocks[:, :2] = scales[random.integers(0, 2, count)]
        out.write(blocks.tobytes())
        left -= count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--layers", type=int)
    arguments = parser.parse_args()
    s = dict(SHAPES[arguments.shape])
    s["layers"] = min(arguments.layers or s["layers"], s["layers"])

    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(arguments.output, s["architecture"])
    writer.add_name(f"random weights in the shape of {arguments.shape}, {s['layers']} layers")
    writer.add_block_count(s["layers"])
    writer.add_context_length(s["context"])
    writer.add_embedding_length(s["hidden"])
    writer.add_feed_forward_length(s["feed_forward"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv_heads"])
    writer.add_key_length(s["head"])
    writer.add_value_length(s["head"])
    writer.add_rope_freq_base(s["theta"])
    writer.add_layer_norm_rms_eps(s["epsilon"])
    writer.add_vocab_size(s["vocabulary"])
    writer.add_expert_count(s["experts"])
    writer.add_expert_used_count(s["chosen"])
    writer.add_expert_feed_forward_length(s["size"])
    if s["shared"]:
        writer.add_expert_shared_feed_forward_length(s["shared"])
    write_peer.VOCABULARY = s["vocabulary"]
    write_peer.make_up_vocabulary(writer, random)

    plan = list(tensors(s))
    for name, kind, shape, _ in plan:
        if kind == F32:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), math.prod(shape) * 4)
        else:
            stored = (*shape[:-1], shape[-1] // 32 * BYTES[kind])
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), math.prod(stored), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for _, kind, shape, gain in plan:
        write_data(out, random, kind, shape, gain)
        writer.write_padding(out, out.tell())
    size = out.tell()
    writer.close()
    print(f"{arguments.output}: {size / 1e6:.1f} MB, experts Q4_0, the rest Q8_0")


if __name__ == "__main__":
    main()
