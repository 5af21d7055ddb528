#!/usr/bin/env python3
"""Writes a GGUF for llama.cpp with exactly the shapes of BitNet b1.58 2B4T and random weights.

    write_peer.py -o bitnet-2b-4t.tq2_0.gguf [--type TQ2_0|TQ1_0] [--vocab VOCABULARY.gguf]

Ternary linears in TQ2_0 (2.06 bits a weight) or TQ1_0 (1.69 bits), 42 % of them zero; the tied embedding in Q6_K, which is what
llama.cpp's own quantiser makes of a tied embedding. Without --vocab a byte-level BPE vocabulary of the same size is made up.

Speed does not depend on the values, so blocks are drawn as random bytes of the right distribution and never pass through floats. Most of
the memory it takes, under 1 GB, is for the vocabulary.
"""
import argparse
import sys

try:
    import gguf
    import numpy as np
except ImportError as missing:
    sys.exit(f"write_peer.py: {missing.name} is missing: pip install -r Benchmarks/peer/requirements.txt")

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY = 30, 2560, 6912, 20, 5, 128_256
HEAD_SIZE = HIDDEN // HEADS
ZERO_SHARE = 0.42
BLOCK = 256  # weights in a block of all three types
SLAB = 1024  # rows drawn at a time


class Ternary:
    """Blocks of TQ2_0 or TQ1_0. A byte holds 4 or 5 codes (weight + 1); both come from a table of 65,536 bytes that has each byte
    as often as independent codes with ZERO_SHARE of ones make it."""

    def __init__(self, name: str, random: np.random.Generator):
        self.type = gguf.GGMLQuantizationType[name]
        self.random = random
        # (bytes of a block, codes in each, base)
        self.parts = [(64, 4, 4)] if name == "TQ2_0" else [(48, 5, 3), (4, 4, 3)]
        self.tables = [self.table(count, base) for _, count, base in self.parts]
        self.scale = np.frombuffer(np.float16(0.02).tobytes(), np.uint8)

    def table(self, count: int, base: int) -> np.ndarray:
        side = (1 - ZERO_SHARE) / 2
        codes = self.random.choice(3, size=(65_536, count), p=[side, ZERO_SHARE, side]).astype(np.uint32)
        value = codes @ np.uint32(base) ** np.arange(count - 1, -1, -1, dtype=np.uint32)
        if base == 3:
            # TQ1_0 reads digits by multiplying a fraction of 256, and a last byte of four digits as one of five.
            value = value * (3 if count == 4 else 1)
            value = (value * 256 + 242) // 243
        return value.astype(np.uint8)

    def rows(self, rows: int, columns: int) -> np.ndarray:
        blocks = rows * columns // BLOCK
        draw = [table[self.random.integers(0, 65_536, size=(blocks, size), dtype=np.uint16)] for (size, _, _), table in zip(self.parts, self.tables)]
        block = np.concatenate([*draw, np.broadcast_to(self.scale, (blocks, 2))], axis=1)
        return block.reshape(rows, -1)


class SixBits:
    """Blocks of Q6_K: 192 bytes of codes, 16 scales of 8 bits, one of 16."""

    type = gguf.GGMLQuantizationType.Q6_K

    def __init__(self, random: np.random.Generator):
        self.random = random
        self.scale = np.frombuffer(np.float16(0.00005).tobytes(), np.uint8)

    def rows(self, rows: int, columns: int) -> np.ndarray:
        blocks = rows * columns // BLOCK
        codes = self.random.integers(0, 256, size=(blocks, 192), dtype=np.uint8)
        scales = self.random.integers(-64, 64, size=(blocks, 16), dtype=np.int8).view(np.uint8)
        return np.concatenate([codes, scales, np.broadcast_to(self.scale, (blocks, 2))], axis=1).reshape(rows, -1)


class Ones:
    """A norm."""

    type = gguf.GGMLQuantizationType.F32


def tensors(ternary: Ternary, random: np.random.Generator):
    """(name, encoder, rows, columns) in the order of the file; a norm has no rows."""
    norm = Ones()
    yield "token_embd.weight", SixBits(random), VOCABULARY, HIDDEN
    for i in range(LAYERS):
        block = f"blk.{i}."
        yield block + "attn_norm.weight", norm, None, HIDDEN
        yield block + "attn_q.weight", ternary, HIDDEN, HIDDEN
        yield block + "attn_k.weight", ternary, KV_HEADS * HEAD_SIZE, HIDDEN
        yield block + "attn_v.weight", ternary, KV_HEADS * HEAD_SIZE, HIDDEN
        yield block + "attn_sub_norm.weight", norm, None, HIDDEN
        yield block + "attn_output.weight", ternary, HIDDEN, HIDDEN
        yield block + "ffn_norm.weight", norm, None, HIDDEN
        yield block + "ffn_gate.weight", ternary, FEED_FORWARD, HIDDEN
        yield block + "ffn_up.weight", ternary, FEED_FORWARD, HIDDEN
        yield block + "ffn_sub_norm.weight", norm, None, FEED_FORWARD
        yield block + "ffn_down.weight", ternary, HIDDEN, FEED_FORWARD
    yield "output_norm.weight", norm, None, HIDDEN


def copy_vocabulary(writer: gguf.GGUFWriter, path: str):
    fields = gguf.GGUFReader(path).fields
    count = 0
    for name, field in fields.items():
        if not name.startswith("tokenizer."):
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
        if name == "tokenizer.ggml.tokens":
            count = len(field.data)
    if count != VOCABULARY:
        sys.exit(f"write_peer.py: {path} has {count} tokens; expected {VOCABULARY}, a vocabulary of Llama 3")


def make_up_vocabulary(writer: gguf.GGUFWriter, random: np.random.Generator):
    """Byte-level BPE of as many tokens as Llama 3 has: the bytes, then random pairs of earlier tokens."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shown = {b: chr(b) for b in visible} | {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in visible)}
    tokens, known, merges = [shown[b] for b in range(256)], set(shown.values()), []
    special = 256  # control tokens at the end, as Llama 3 has them
    while len(tokens) < VOCABULARY - special:
        a, b = (tokens[int(len(tokens) * random.random() ** 2)] for _ in range(2))
        if len(a + b) <= 16 and a + b not in known:
            known.add(a + b)
            tokens.append(a + b)
            merges.append(f"{a} {b}")
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * special
    tokens += [f"<|special_{i}|>" for i in range(special)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(VOCABULARY - special)
    writer.add_eos_token_id(VOCABULARY - special + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--type", choices=["TQ2_0", "TQ1_0"], default="TQ2_0")
    parser.add_argument("--vocab", help="a GGUF with the vocabulary of Llama 3")
    arguments = parser.parse_args()

    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(arguments.output, "bitnet")
    writer.add_name(f"random weights in the shape of BitNet b1.58 2B4T, {arguments.type}")
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{arguments.type}"))
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(500_000.0)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    if arguments.vocab:
        copy_vocabulary(writer, arguments.vocab)
    else:
        make_up_vocabulary(writer, random)

    plan = list(tensors(Ternary(arguments.type, random), random))
    for name, encoder, rows, columns in plan:
        if rows is None:
            writer.add_tensor_info(name, (columns,), np.dtype(np.float32), columns * 4)
        else:
            width = columns // BLOCK * gguf.GGML_QUANT_SIZES[encoder.type][1]
            writer.add_tensor_info(name, (rows, width), np.dtype(np.uint8), rows * width, encoder.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # The writer takes whole tensors; a tensor of the embedding's size is written in slabs behind its back, with the same padding.
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for _, encoder, rows, columns in plan:
        if rows is None:
            out.write(np.ones(columns, np.float32).tobytes())
        else:
            for first in range(0, rows, SLAB):
                out.write(encoder.rows(min(SLAB, rows - first), columns).tobytes())
        writer.write_padding(out, out.tell())
    size = out.tell()
    writer.close()
    print(f"{arguments.output}: {size / 1e6:.1f} MB, {arguments.type}, embedding Q6_K, vocabulary {'of ' + arguments.vocab if arguments.vocab else 'made up'}")


if __name__ == "__main__":
    main()
