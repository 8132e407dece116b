"""Writes test/model/fixtures/attention*: what Hugging Face's GPT2LMHeadModel attends to, in float64.

Run by hand, in the repository's root, after make_fixtures.py, whose starting weights and first batch it reads; needs
torch, transformers and numpy:

    python test/model/make_attention_fixtures.py

attention-NAME.bin holds `output_attentions` of eager attention, (layers, B, H, T, T) little-endian float32; attention.json
their shapes, and the relative L2 errors of PyTorch itself under torch.autocast(bfloat16) against them.
"""

import json
import pathlib

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "fixtures"

# name: the layers and the sequences that are kept
CASES = {"three-heads": (slice(None), slice(None)), "long-block": (slice(-1, None), slice(1))}


def load(name):
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    numbers = np.fromfile(FOLDER / f"{name}.bin", dtype="<f4")
    sizes = meta["config"]
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=sizes["vocabSize"], n_positions=sizes["nPositions"], n_embd=sizes["nEmbd"],
        n_layer=sizes["nLayer"], n_head=sizes["nHead"], n_inner=sizes["nInner"], activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=sizes["layerNormEpsilon"],
        attn_implementation="eager", bos_token_id=0, eos_token_id=0, use_cache=False))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            entry = meta["tensors"]["param/" + key]
            values = numbers[entry["offset"]:entry["offset"] + parameter.numel()].reshape(entry["shape"])
            parameter.copy_(torch.from_numpy(values.copy()))
    ids = torch.tensor(meta["batches"][0]["inputIds"]).reshape(meta["batchSize"], meta["blockSize"])
    return model.eval(), ids


def main():
    index = dict(madeWith=dict(torch=torch.__version__, transformers=transformers.__version__))
    for name, (layers, sequences) in CASES.items():
        model, ids = load(name)
        with torch.no_grad():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = torch.stack(model(ids, output_attentions=True).attentions)[layers, sequences].double()
            kept = torch.stack(model.double()(ids, output_attentions=True).attentions)[layers, sequences]
        kept.float().contiguous().numpy().astype("<f4").tofile(FOLDER / f"attention-{name}.bin")
        index[name] = dict(shape=list(kept.shape), bf16=((low - kept).norm() / kept.norm()).item())
    (FOLDER / "attention.json").write_text(json.dumps(index) + "\n")
    print(index)


if __name__ == "__main__":
    main()
