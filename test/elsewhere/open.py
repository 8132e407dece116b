"""Opens what write.mjs wrote with Transformers, safetensors and gguf: see there. Prints the largest differences."""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers

# Of the largest logit: rounding in float32, and what bfloat16's 8 bits leave of the weights.
LIMITS = {"hf": 1e-5, "hf-sharded": 1e-5, "hf-bf16": 0.03}
# Half a unit of float16's 11 bits; half a step of 127 of the largest in a block, whose step is rounded too.
GGUF_LIMITS = {"f32": 0.0, "f16": 2**-11, "q8_0": 0.57 / 127}
NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv",
         "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}

failures = 0


def check(what, value, limit):
    global failures
    failures += not value <= limit
    print(f"{'ok' if value <= limit else 'FAILED'}  {what}: {value:.3g} (at most {limit:.3g})")


def gguf_name(name):
    module, part = name.removeprefix("transformer.").rsplit(".", 1)
    if module.startswith("h."):
        _, layer, inner = module.split(".", 2)
        return f"blk.{layer}.{NAMES[inner]}.{part}"
    return f"{NAMES[module]}.{part}"


def open_transformers(folder, expected):
    wanted = np.array(expected["logits"], dtype=np.float32).reshape(len(expected["ids"]), -1)
    for name, limit in LIMITS.items():
        model, info = transformers.GPT2LMHeadModel.from_pretrained(folder / name, dtype=torch.float32,
                                                                   output_loading_info=True)
        found = [key for keys in info.values() for key in keys]
        check(f"{folder.name}/{name}: keys that are missing, unexpected or of another shape", len(found), 0)
        with torch.no_grad():
            logits = model.eval()(torch.tensor([expected["ids"]])).logits[0].numpy()
        check(f"{folder.name}/{name}: logits", np.abs(logits - wanted).max() / np.abs(wanted).max(), limit)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    wrong = [t["text"] for t in expected["texts"] if tokenizer(t["text"], add_special_tokens=False)["input_ids"] != t["ids"]]
    check(f"{folder.name}: texts that AutoTokenizer ({type(tokenizer).__name__}) encodes otherwise", len(wrong), 0)


def open_gguf(folder):
    weights = transformers.GPT2LMHeadModel.from_pretrained(folder / "hf", dtype=torch.float32).state_dict()
    for kind, limit in GGUF_LIMITS.items():
        tensors = {t.name: t for t in gguf.GGUFReader(folder / f"{kind}.gguf").tensors}
        worst = 0.0
        for name, values in weights.items():
            if name == "lm_head.weight":
                continue
            values = values.numpy()
            is_linear = values.ndim == 2 and not name.startswith(("transformer.wte", "transformer.wpe"))
            tensor = tensors.pop(gguf_name(name))
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            wanted = values.T if is_linear else values
            worst = max(worst, np.abs(found.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max())
        check(f"{folder.name}/{kind}.gguf: weights", worst, limit)
        check(f"{folder.name}/{kind}.gguf: tensors beyond those", len(tensors), 0)


print(f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}")
for folder in sorted(pathlib.Path(sys.argv[1], "models").iterdir()):
    expected = json.loads((folder / "expected.json").read_text())
    open_transformers(folder, expected)
    open_gguf(folder)
sys.exit(1 if failures else 0)
