"""Writes test/model/fixtures/: what Hugging Face's GPT2LMHeadModel and torch.optim.AdamW compute, in float64.

Run by hand, in the repository's root; needs torch, transformers and numpy:

    python test/model/make_fixtures.py

Each fixture is NAME.json (configuration, batches, losses, and an index of tensors) and NAME.bin (the tensors, little-endian
float32, one after the other). The starting weights are float32 numbers; everything after them is computed in float64
with eager attention. Labels are already shifted: labels[t] belongs to the logits at t.

`bf16` holds the relative L2 errors of PyTorch itself under torch.autocast(bfloat16), against the float64 truth: a bf16
engine may err at most twice as much.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import transformers

OUT = pathlib.Path(__file__).parent / "fixtures"
STEPS = 20

# name: sizes, the batch, micro-batches per step, the share of ignored labels, AdamW
CASES = {
    "three-heads": dict(V=97, P=32, C=24, L=2, H=3, F=96, B=3, T=17, micro=1, ignored=0.2, lr=2e-3, clip=1.0),
    "one-position": dict(V=61, P=8, C=20, L=1, H=1, F=33, B=5, T=1, micro=1, ignored=0.0, lr=1e-2, clip=0.5),
    "long-block": dict(V=131, P=97, C=60, L=2, H=3, F=100, B=2, T=97, micro=1, ignored=0.05, lr=1e-3, clip=0.7),
    "accumulated": dict(V=83, P=40, C=40, L=3, H=5, F=160, B=2, T=33, micro=3, ignored=0.4, lr=1e-3, clip=0.0),
    "one-head": dict(V=257, P=24, C=64, L=1, H=1, F=256, B=4, T=24, micro=2, ignored=0.0, lr=3e-3, clip=1.0),
}
BETAS, EPS, DECAY = (0.9, 0.95), 1e-8, 0.1


def make_model(case, generator):
    config = transformers.GPT2Config(
        vocab_size=case["V"], n_positions=case["P"], n_embd=case["C"], n_layer=case["L"], n_head=case["H"],
        n_inner=case["F"], activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        layer_norm_epsilon=1e-5, attn_implementation="eager", bos_token_id=0, eos_token_id=0, use_cache=False)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # Larger than GPT-2's own start, so that attention, GELU and LayerNorm leave their linear range.
            scale = 0.25 if parameter.dim() == 2 else 0.1
            centre = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + scale * noise)
    return model


def make_batch(case, generator):
    shape = (case["B"], case["T"])
    ids = torch.randint(0, case["V"], shape, generator=generator)
    labels = torch.randint(0, case["V"], shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < case["ignored"]] = -100
    return ids, labels


def loss_sum(logits, labels):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100, reduction="sum")


def forward_backward(model, batch, autocast=False):
    ids, labels = batch
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(ids).logits
    loss = loss_sum(logits if logits.dtype == torch.float64 else logits.float(), labels) / (labels != -100).sum()
    loss.backward()
    return logits.detach(), loss.item(), {n: p.grad.clone() for n, p in model.named_parameters()}


def relative_l2(value, truth):
    return ((value.double() - truth).norm() / truth.norm()).item()


def train(model, case, batches):
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=DECAY), dict(params=others, weight_decay=0.0)],
                                  lr=case["lr"], betas=BETAS, eps=EPS)
    steps = []
    for step in range(STEPS):
        micro = batches[step * case["micro"]:(step + 1) * case["micro"]]
        count = sum((labels != -100).sum() for _, labels in micro)
        optimizer.zero_grad()
        loss = 0.0
        for ids, labels in micro:
            part = loss_sum(model(ids).logits, labels) / count
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case["clip"] if case["clip"] > 0 else math.inf)
        optimizer.step()
        steps.append(dict(loss=loss, gradNorm=norm.item()))
    return steps


def greedy(model, case, generator):
    """A continuation whose every choice is clear: the two best logits differ by more than rounding can."""
    while True:
        prompt = torch.randint(0, case["V"], (1, max(1, case["P"] // 4)), generator=generator)
        ids, margin = prompt, math.inf
        while ids.shape[1] < case["P"]:
            best = model(ids).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids = torch.cat([ids, best.indices[:1].reshape(1, 1)], dim=1)
        if margin > 1e-2:
            return dict(prompt=prompt[0].tolist(), ids=ids[0, prompt.shape[1]:].tolist())


def write(name, case, seed):
    generator = torch.Generator().manual_seed(seed)
    single = make_model(case, generator)
    batches = [make_batch(case, generator) for _ in range(STEPS * case["micro"])]
    initial = {n: p.detach().clone() for n, p in single.named_parameters()}
    low_logits, low_loss, low_grads = forward_backward(single, batches[0], autocast=True)

    model = single.double()
    logits, loss, grads = forward_backward(model, batches[0])
    bf16 = dict(logits=relative_l2(low_logits, logits), loss=abs(low_loss - loss) / loss,
                gradients={n: relative_l2(low_grads[n], grads[n]) for n in grads})
    with torch.no_grad():
        continuation = greedy(model, case, generator)
    steps = train(model, case, batches)

    tensors = {"logits": logits}
    for n in initial:
        tensors["param/" + n] = initial[n]
        tensors["grad/" + n] = grads[n]
    index, offset = {}, 0
    with open(OUT / f"{name}.bin", "wb") as file:
        for key, tensor in tensors.items():
            data = tensor.detach().float().contiguous().numpy().astype("<f4")
            index[key] = dict(offset=offset, shape=list(tensor.shape))
            file.write(data.tobytes())
            offset += data.size
    meta = dict(
        madeWith=dict(torch=torch.__version__, transformers=transformers.__version__),
        config=dict(vocabSize=case["V"], nPositions=case["P"], nEmbd=case["C"], nLayer=case["L"], nHead=case["H"],
                    nInner=case["F"], layerNormEpsilon=1e-5, initializerRange=0.02, embdPdrop=0, attnPdrop=0,
                    residPdrop=0),
        batchSize=case["B"], blockSize=case["T"], microBatches=case["micro"],
        batches=[dict(inputIds=i.reshape(-1).tolist(), labels=l.reshape(-1).tolist()) for i, l in batches],
        loss=loss,
        stepOptions=dict(learningRate=case["lr"], beta1=BETAS[0], beta2=BETAS[1], eps=EPS, weightDecay=DECAY,
                         maxGradNorm=case["clip"]),
        steps=steps, greedy=continuation, bf16=bf16, tensors=index)
    (OUT / f"{name}.json").write_text(json.dumps(meta, separators=(",", ":")) + "\n")
    print(name, "loss", loss, "last", steps[-1], "bf16", bf16["logits"], bf16["loss"])


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    for number, (name, case) in enumerate(CASES.items()):
        write(name, case, seed=1000 + number)
