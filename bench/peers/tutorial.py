"""The data pipeline of the PyTorch tutorial that kotodama's follows, for bench/data.mjs.

    python tutorial.py TEXT SENTENCEPIECE_MODEL [WORKERS]

Lines are tokenized one by one, their ids cut into blocks of 1024 and shuffled in a buffer of 100; a DataLoader with one
worker (the tutorial's), or with none, makes batches of 3. Prints one JSON object: versions, seconds of one pass, tokens in
its batches.
"""

import json
import random
import sys
import time

import sentencepiece
import torch
from torch.utils.data import DataLoader, IterableDataset


class BlockDataset(IterableDataset):
    def __init__(self, path, model, block_size):
        self.path = path
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=model)
        self.block_size = block_size

    def __iter__(self):
        ids = []
        with open(self.path, encoding="utf-8") as lines:
            for line in lines:
                ids.extend(self.tokenizer.encode(line.rstrip("\n")))
                while len(ids) >= self.block_size + 1:
                    yield {
                        "input_ids": torch.tensor(ids[: self.block_size]),
                        "labels": torch.tensor(ids[1 : self.block_size + 1]),
                    }
                    ids = ids[self.block_size :]


class BufferedShuffleDataset(IterableDataset):
    """As in torch 1.8."""

    def __init__(self, dataset, buffer_size):
        self.dataset = dataset
        self.buffer_size = buffer_size

    def __iter__(self):
        buffer = []
        for item in self.dataset:
            if len(buffer) == self.buffer_size:
                index = random.randint(0, self.buffer_size - 1)
                yield buffer[index]
                buffer[index] = item
            else:
                buffer.append(item)
        random.shuffle(buffer)
        while buffer:
            yield buffer.pop()


def main():
    path, model = sys.argv[1:3]
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    dataset = BufferedShuffleDataset(BlockDataset(path, model, 1024), 100)
    start = time.perf_counter()
    tokens = 0
    options = {"num_workers": workers, "prefetch_factor": 10} if workers > 0 else {}
    for batch in DataLoader(dataset, batch_size=3, **options):
        tokens += batch["input_ids"].numel()
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__, "seconds": seconds, "tokens": tokens}
        )
    )


if __name__ == "__main__":
    main()
