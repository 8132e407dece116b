"""GPT-2 in PyTorch, as a contender of `npm run bench` and `npm run bench:cuda`.

Reads requests from the standard input and answers each with one line, both JSON:

    {"do": "describe", "compile": true}                 -> versions and, if asked, whether torch.compile works here
    {"do": "train", "model": {...}, "batch": 3, "block": 1024, "precision": "fp32", "threads": 2, "tuned": false,
     "compile": false}                                  -> once two steps are done, of each kind
    {"do": "steps", "count": 5, "compile": false}       -> {"seconds": [...], "loss": ...}
    {"do": "generate", "model": {...}, "precision": "fp32", "threads": 2, "prompt": 16, "tokens": 64, "int8": false}
                                                        -> {"seconds": [one for each token]}
    {"do": "memory"}                                    -> {"peakBytes": of this process}

`tuned` takes what speeds PyTorch up: fused AdamW. Pinned threads and the allocator are the caller's environment.
A step is forward, backward, clipping to norm 1 and AdamW.

With "device": "cuda", describe also answers {"gpu": its name}, or {"gpu": null, "reason": why CUDA does not work}; train
trains there, where "threads" may be left out; and memory answers what the tensors of the last steps took of the GPU.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.mlp_proj = nn.Linear(4 * width, width)

    def forward(self, x, cache=None, past=0):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(c, dim=2)
        )
        if cache is not None:
            cache[0][:, :, past : past + t] = k
            cache[1][:, :, past : past + t] = v
            k, v = cache[0][:, :, : past + t], cache[1][:, :, : past + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, vocabSize, nLayer, nHead, nEmbd, nPositions):
        super().__init__()
        self.wte = nn.Embedding(vocabSize, nEmbd)
        self.wpe = nn.Embedding(nPositions, nEmbd)
        self.layers = nn.ModuleList(Block(nEmbd, nHead) for _ in range(nLayer))
        self.ln_f = nn.LayerNorm(nEmbd)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, 0, 0.02 / math.sqrt(2 * nLayer) if "proj" in name else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, ids, caches=None, past=0):
        x = self.wte(ids) + self.wpe(torch.arange(past, past + ids.shape[1], device=ids.device))
        for i, layer in enumerate(self.layers):
            x = layer(x, None if caches is None else caches[i], past)
        return self.ln_f(x)

    def forward(self, ids, labels):
        logits = F.linear(self.hidden(ids), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), labels.view(-1))


def compiles(device):
    try:
        return torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=device)).shape == (64,)
    except Exception:
        return False


def gpu():
    try:
        torch.ones(1, device="cuda").item()
        return {"gpu": torch.cuda.get_device_name()}
    except Exception as error:
        return {"gpu": None, "reason": str(error)}


class Contender:
    def __init__(self):
        self.step = None
        self.device = "cpu"

    def describe(self, request):
        device = request.get("device", "cpu")
        found = {"torch": torch.__version__, "python": sys.version.split()[0]}
        if device == "cuda":
            found.update(gpu())
        return {**found, "compiles": compiles(device)} if request["compile"] else found

    def train(self, request):
        self.step = None
        self.device = device = request.get("device", "cpu")
        if device == "cpu" or "threads" in request:
            torch.set_num_threads(request["threads"])
        torch.manual_seed(0)
        model = GPT2(**request["model"]).to(device)
        decayed = [p for p in model.parameters() if p.dim() == 2]
        others = [p for p in model.parameters() if p.dim() != 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=1e-4,
            betas=(0.9, 0.95),
            fused=True if request["tuned"] else None,
        )
        vocabulary = request["model"]["vocabSize"]
        tokens = (torch.arange(request["batch"] * request["block"] + 1) * 7919 % vocabulary).to(device)
        ids = tokens[:-1].view(request["batch"], request["block"])
        labels = tokens[1:].view(request["batch"], request["block"])
        compiled = torch.compile(model) if request["compile"] else None
        bf16 = request["precision"] == "bf16"

        def step(compile):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                loss = (compiled if compile else model)(ids, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.item()  # on a GPU this waits for all of the step

        for compile in [False, True] if request["compile"] else [False]:
            for _ in range(2):
                step(compile)
        self.step = step
        return {}

    def steps(self, request):
        seconds, loss = [], None
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(request["count"]):
            begin = time.perf_counter()
            loss = self.step(request["compile"])
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds, "loss": loss}

    @torch.inference_mode()
    def generate(self, request):
        torch.set_num_threads(request["threads"])
        shape = request["model"]
        dtype = torch.bfloat16 if request["precision"] == "bf16" else torch.float32
        torch.manual_seed(0)
        model = GPT2(**shape).to(dtype)
        count, heads = request["prompt"] + request["tokens"], shape["nHead"]
        caches = [torch.zeros(2, 1, heads, count, shape["nEmbd"] // heads, dtype=dtype) for _ in model.layers]
        ids, past, seconds = torch.arange(request["prompt"]).view(1, -1), 0, []
        for _ in range(request["tokens"]):
            begin = time.perf_counter()
            hidden = model.hidden(ids, caches, past)[:, -1]
            past += ids.shape[1]
            ids = F.linear(hidden, model.wte.weight).argmax(dim=-1, keepdim=True)
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds[1:]}  # the first reads the prompt

    def memory(self, _):
        if self.device == "cuda":
            return {"peakBytes": torch.cuda.max_memory_allocated()}
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return {"peakBytes": int(line.split()[1]) * 1024}
        return {}


def main():
    contender = Contender()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(contender, request["do"])(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
