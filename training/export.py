"""Writes a checkpoint as a hub folder: config.json, model.safetensors with packed ternary weights, tokenizer.json.

    python export.py RUN OUT
"""
import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import mixture
from mixture import Mixture, MixtureConfig
from model import Config, Pocket

NAMES = {  # ours -> the hub's
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "attention_norm.weight": "input_layernorm.weight", "attention_sub_norm.weight": "self_attn.attn_sub_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight", "ffn_sub_norm.weight": "mlp.ffn_sub_norm.weight",
}


def pack(t: torch.Tensor) -> torch.Tensor:
    """[rows, columns] of -1, 0, 1 -> uint8 [rows / 4, columns]: row r with r + n/4, r + n/2, r + 3n/4, two bits each, value + 1."""
    n = t.shape[0] // 4
    u = (t + 1).to(torch.uint8)
    return u[:n] | u[n:2 * n] << 2 | u[2 * n:3 * n] << 4 | u[3 * n:] << 6


def hub_config(c: Config) -> dict:
    return {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "dtype": "float32",
        "vocab_size": c.vocab, "hidden_size": c.hidden, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "max_position_embeddings": c.context,
        "hidden_act": "relu2", "rms_norm_eps": c.eps, "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "tie_word_embeddings": True, "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
        "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0, "use_cache": True,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
                                "modules_to_not_convert": ["lm_head"]},
    }


def hub_state(model: Pocket) -> dict:
    state = {"model.embed_tokens.weight": model.embedding.detach().float(), "model.norm.weight": model.norm.weight.detach().float()}
    for i, block in enumerate(model.blocks):
        for name, p in block.named_parameters():
            to = f"model.layers.{i}.{NAMES[name]}"
            p = p.detach().float()
            if p.dim() == 2:
                scale = p.abs().mean().clamp(min=1e-5)
                state[to + ".weight"] = pack((p / scale).round().clamp(-1, 1))
                state[to + ".weight_scale"] = scale.reshape(1)
            else:
                state[to] = p
    return {k: v.contiguous() for k, v in state.items()}


def make(config: dict) -> Pocket:
    return Mixture(MixtureConfig(**config)) if "experts" in config else Pocket(Config(**config))


def load(checkpoint: Path) -> Pocket:
    """A model as training left it."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model = make(saved["config"])
    model.load_state_dict(saved["model"])
    return model.eval()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("run", type=Path, help="folder with checkpoint.pt and tokenizer.json")
    ap.add_argument("out", type=Path)
    a = ap.parse_args()
    model = load(a.run / "checkpoint.pt")
    a.out.mkdir(parents=True, exist_ok=True)
    kind = mixture if isinstance(model, Mixture) else sys.modules[__name__]
    (a.out / "config.json").write_text(json.dumps(kind.hub_config(model.c), indent=2) + "\n")
    save_file(kind.hub_state(model), a.out / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(a.run / "tokenizer.json", a.out / "tokenizer.json")
    shutil.copy(Path(__file__).with_name("template.json"), a.out / "template.json")
    size = sum(f.stat().st_size for f in a.out.iterdir())
    print(f"{a.out}: {sum(p.numel() for p in model.matrices()):,} weights, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
