"""Writes test/model/fixtures/run.json and run.bin: 200 optimizer steps of a whole run, as PyTorch takes them in float64.

Run by hand, in the repository's root; needs torch, transformers and numpy:

    python test/model/make_run_fixture.py

Each step accumulates two micro-batches whose numbers of labels differ, from none to all of them; the gradient of the mean
over all labels of the step is clipped (clip_grad_norm_) and applied (AdamW) with the rate of a warmup and a cosine. Both the
starting weights and those after the last step are in run.bin, little-endian float32. The batches are not: test and script
draw them from the same small generator.

`schedules` holds the learning rates of 200 steps as torch.optim.lr_scheduler and Transformers have them. Transformers begins
a warmup at 0; there the warmup is PyTorch's LinearLR.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
import transformers
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

OUT = pathlib.Path(__file__).parent / "fixtures"
STEPS, MICRO, B, T, V = 200, 2, 3, 11, 61
LR, MIN_LR, WARMUP = 3e-3, 2e-4, 20
# None of them is a default of the Trainer: one that it ignored would show.
DECAY, CLIP, BETAS, EPS = 0.03, 0.7, (0.8, 0.97), 1e-6
CONFIG = dict(vocabSize=V, nPositions=16, nEmbd=16, nLayer=2, nHead=2, nInner=64, layerNormEpsilon=1e-5,
              initializerRange=0.02, embdPdrop=0, attnPdrop=0, residPdrop=0)


class Lcg:
    """x -> 1664525 x + 1013904223 modulo 2^32 (Numerical Recipes); the upper 24 bits are given out."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return self.state >> 8


def make_batch(random, step, micro):
    ids = [random.next() % V for _ in range(B * T)]
    # From no label to all of them: another share in each micro-batch.
    share = (3 * step + 5 * micro) % 8
    labels = [(5 * i + random.next() % 3) % V if random.next() % 7 >= share else -100 for i in ids]
    return torch.tensor(ids).reshape(B, T), torch.tensor(labels).reshape(B, T)


def make_model():
    generator = torch.Generator().manual_seed(7)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=CONFIG["nPositions"], n_embd=CONFIG["nEmbd"], n_layer=CONFIG["nLayer"],
        n_head=CONFIG["nHead"], n_inner=CONFIG["nInner"], activation_function="gelu_new", resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=1e-5, attn_implementation="eager", bos_token_id=0,
        eos_token_id=0, use_cache=False)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_((1.0 if ".ln_" in name and name.endswith("weight") else 0.0) + 0.1 * noise)
    return model


def train(model):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=DECAY), dict(params=others, weight_decay=0.0)],
                                  lr=LR, betas=BETAS, eps=EPS)
    schedule = cosine(optimizer)
    random, steps = Lcg(1), []
    for step in range(STEPS):
        batches = [make_batch(random, step, micro) for micro in range(MICRO)]
        count = sum((labels != -100).sum().item() for _, labels in batches)
        optimizer.zero_grad()
        loss = 0.0
        for ids, labels in batches:
            logits = model(ids).logits
            part = F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1), ignore_index=-100, reduction="sum") / count
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        steps.append(dict(loss=loss, gradNorm=norm.item(), learningRate=optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return steps


def warmup(optimizer):
    return LinearLR(optimizer, start_factor=1 / (WARMUP + 1), end_factor=1.0, total_iters=WARMUP)


def cosine(optimizer):
    rest = CosineAnnealingLR(optimizer, T_max=STEPS - WARMUP, eta_min=MIN_LR)
    return SequentialLR(optimizer, [warmup(optimizer), rest], milestones=[WARMUP])


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=LR)
    schedule = make(optimizer)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def schedules():
    def linear(optimizer):
        rest = LinearLR(optimizer, start_factor=1.0, end_factor=MIN_LR / LR, total_iters=STEPS - WARMUP)
        return SequentialLR(optimizer, [warmup(optimizer), rest], milestones=[WARMUP])

    def constant(optimizer):
        rest = ConstantLR(optimizer, factor=1.0, total_iters=STEPS)
        return SequentialLR(optimizer, [warmup(optimizer), rest], milestones=[WARMUP])

    def wsd(optimizer):
        return transformers.get_wsd_schedule(
            optimizer, num_warmup_steps=WARMUP, num_decay_steps=STEPS // 5, num_stable_steps=STEPS - WARMUP - STEPS // 5,
            decay_type="linear", min_lr_ratio=MIN_LR / LR)

    def inverse_sqrt(optimizer):
        return transformers.get_inverse_sqrt_schedule(optimizer, num_warmup_steps=WARMUP)

    rise = rates(warmup)[:WARMUP]
    after_warmup = lambda make: rise + rates(make)[WARMUP:]
    return {"cosine": rates(cosine), "linear": rates(linear), "constant": rates(constant), "wsd": after_warmup(wsd),
            "inverse-sqrt": after_warmup(inverse_sqrt)}


def main():
    model = make_model()
    tensors = {f"start/{n}": p.detach().clone() for n, p in model.named_parameters()}
    model = model.double()
    steps = train(model)
    tensors.update({f"end/{n}": p.detach() for n, p in model.named_parameters()})
    index, offset = {}, 0
    with open(OUT / "run.bin", "wb") as file:
        for key, tensor in tensors.items():
            data = tensor.float().contiguous().numpy().astype("<f4")
            index[key] = dict(offset=offset, shape=list(tensor.shape))
            file.write(data.tobytes())
            offset += data.size
    meta = dict(
        madeWith=dict(torch=torch.__version__, transformers=transformers.__version__), config=CONFIG,
        batchSize=B, blockSize=T,
        options=dict(gradAccum=MICRO, maxSteps=STEPS, lr=LR, minLr=MIN_LR, warmupSteps=WARMUP, schedule="cosine",
                     weightDecay=DECAY, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, gradClip=CLIP),
        steps=steps, schedules=schedules(), tensors=index)
    (OUT / "run.json").write_text(json.dumps(meta, separators=(",", ":")) + "\n")
    print(steps[0], steps[-1])


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    main()
