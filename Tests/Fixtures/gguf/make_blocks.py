"""make_blocks.py REFERENCE OUT

Write blocks.gguf: tensors of every type that `sterna pack` reads, each beside `NAME.expected`, the float32 values that it stands for.

TYPE              random bytes under factors of every size, expected values by the `gguf` package (pip install gguf)
engine.TYPE       a matrix of REFERENCE/gguf, made by bitnet.cpp's and llama.cpp's own quantisers; engine.codes and engine.scale are the
                  same weights in the hub folder beside them
"""
import json, pathlib, struct, sys
import numpy as np
import gguf

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "BF16": 30, "TQ1_0": 34, "TQ2_0": 35, "I2_S": 36, "MXFP4": 39}
reference, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
random = np.random.default_rng(1)
tensors = []  # name, type, shape with columns first, bytes


def text(s): return struct.pack("<Q", len(s)) + s.encode()


def read(path):
    """Tensors of a GGUF file by name: (type, shape, bytes). The package refuses files with types it does not know."""
    data, at = path.read_bytes(), 24
    tensor_count, key_count = struct.unpack_from("<QQ", data, 8)
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def skip(kind):
        nonlocal at
        if kind == 8:
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        elif kind == 9:
            element, count = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(count): skip(element)
        else:
            at += sizes[kind]

    for _ in range(key_count):
        skip(8)
        at += 4
        skip(struct.unpack_from("<I", data, at - 4)[0])
    entries = []
    for _ in range(tensor_count):
        length = struct.unpack_from("<Q", data, at)[0]
        name = data[at + 8:at + 8 + length].decode()
        at += 8 + length
        dimensions = struct.unpack_from("<I", data, at)[0]
        shape = struct.unpack_from(f"<{dimensions}Q", data, at + 4)
        at += 4 + 8 * dimensions
        kind, offset = struct.unpack_from("<IQ", data, at)
        at += 12
        entries.append((name, kind, shape, offset))
    begin = (at + 31) // 32 * 32
    ends = sorted(e[3] for e in entries) + [len(data) - begin]
    return {n: (k, s, data[begin + o:begin + min(e for e in ends if e > o)]) for n, k, s, o in entries}


def floats(name, values):
    tensors.append((name, 0, values.shape[::-1], values.astype("<f4").tobytes()))


for name in ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q4_K", "Q4_0", "IQ4_NL", "TQ1_0", "TQ2_0", "Q5_K", "MXFP4"]:
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = 3, 512
    if values == 1:
        wanted = random.standard_normal((rows, columns)) * 10.0 ** random.integers(-6, 4, (rows, columns))
        raw = gguf.quants.quantize(wanted.astype(np.float32), kind)
        raw = np.ascontiguousarray(raw).view(np.uint8).reshape(rows, -1)
    else:
        raw = random.integers(0, 256, (rows, columns // values, size), dtype=np.uint8)
        factor = (10.0 ** random.integers(-6, 3, (rows, columns // values)) * random.uniform(1, 9, (rows, columns // values))).astype("<f2")
        if not name.startswith("T"): factor *= random.choice([-1, 1], factor.shape).astype("<f2")
        place = {"Q6_K": 208, "TQ1_0": 52, "TQ2_0": 64}.get(name, 0)
        if name == "MXFP4": raw[:, :, 0] = random.integers(100, 140, raw.shape[:2])  # powers of two
        else: raw[:, :, place:place + 2] = factor[..., None].view(np.uint8)
        if name in ("Q4_K", "Q5_K"): raw[:, :, 2:4] = factor[::-1, :, None].copy().view(np.uint8)
        if name == "TQ2_0":  # code 3 does not occur
            codes = random.integers(0, 3, (rows, columns // values, 64, 4), dtype=np.uint8)
            raw[:, :, :64] = (codes << (2 * np.arange(4, dtype=np.uint8))).sum(-1).astype(np.uint8)
        if name == "TQ1_0":  # bytes are five digits of base 3, or four
            numbers = random.integers(0, 243, (rows, columns // values, 52))
            numbers[:, :, 48:] -= numbers[:, :, 48:] % 3
            raw[:, :, :52] = (numbers * 256 + 242) // 243
        raw = raw.reshape(rows, -1)
    tensors.append((name, TYPES[name], (columns, rows), raw.tobytes()))
    floats(name + ".expected", gguf.quants.dequantize(raw.view(np.float32) if name == "F32" else raw.view(np.float16) if name == "F16" else raw, kind))

part = "model.layers.0.self_attn.k_proj.weight"
data = (reference / "gguf/hub/model.safetensors").read_bytes()
length = struct.unpack_from("<Q", data)[0]
header = json.loads(data[8:8 + length])
begin, end = header[part]["data_offsets"]
packed = np.frombuffer(data[8 + length + begin:8 + length + end], np.uint8).reshape(header[part]["shape"])
begin, _ = header[part + "_scale"]["data_offsets"]
scale = np.frombuffer(data[8 + length + begin:8 + length + begin + 4], "<f4")[0] if header[part + "_scale"]["dtype"] == "F32" else \
    (np.frombuffer(data[8 + length + begin:8 + length + begin + 2], "<u2").astype("<u4") << 16).view("<f4")[0]
codes = np.concatenate([packed >> (2 * i) & 3 for i in range(4)]).astype(np.float32) - 1
for name in ["I2_S", "TQ1_0", "TQ2_0"]:
    kind, shape, raw = read(reference / f"gguf/{name.lower()}.gguf")["blk.0.attn_k.weight"]
    assert kind == TYPES[name] and shape == codes.shape[::-1]
    size = codes.size // 4 + 32 if name == "I2_S" else codes.size // 256 * {"TQ1_0": 54, "TQ2_0": 66}[name]
    tensors.append((f"engine.{name}", kind, shape, raw[:size]))
tensors.append(("engine.codes", 24, codes.shape[::-1], codes.astype(np.int8).tobytes()))
floats("engine.scale", np.array([scale]))

head, body = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 0), b""
for name, kind, shape, raw in tensors:
    head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(body))
    body += raw + bytes(-len(raw) % 32)
out.write_bytes(head + bytes(-len(head) % 32) + body)
