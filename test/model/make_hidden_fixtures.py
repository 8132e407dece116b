"""Writes test/model/fixtures/hidden*: the residual stream of Hugging Face's GPT2Model, in float64.

Run by hand, in the repository's root, after make_fixtures.py, whose starting weights and first batch it reads; needs
torch, transformers and numpy:

    python test/model/make_hidden_fixtures.py

hidden-NAME.bin holds `output_hidden_states`, (states, B, T, C) little-endian float32, of the first `B` sequences of the
batch; hidden.json their shapes and, of each state, the relative L2 error of PyTorch itself under
torch.autocast(bfloat16) against them.
"""

import json

import torch
import transformers
from make_attention_fixtures import FOLDER, load

# name: how many sequences are kept
CASES = {"three-heads": 3, "long-block": 1}


def states(model, ids, sequences):
    return torch.stack([state[:sequences].double() for state in model(ids, output_hidden_states=True).hidden_states])


def main():
    index = dict(madeWith=dict(torch=torch.__version__, transformers=transformers.__version__))
    for name, sequences in CASES.items():
        model, ids = load(name)
        with torch.no_grad():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = states(model, ids, sequences)
            kept = states(model.double(), ids, sequences)
        kept.float().contiguous().numpy().astype("<f4").tofile(FOLDER / f"hidden-{name}.bin")
        index[name] = dict(shape=list(kept.shape),
                           bf16=[((a - b).norm() / b.norm()).item() for a, b in zip(low, kept)])
    (FOLDER / "hidden.json").write_text(json.dumps(index) + "\n")
    print(index)


if __name__ == "__main__":
    main()
