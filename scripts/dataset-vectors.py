#!/usr/bin/env python3
"""Writes tests/golden/dataset-vectors.json: what vLLM's own dataset classes make with tests/data/tiny-tokenizer.

    python3 -m venv /tmp/vllm && /tmp/vllm/bin/pip install vllm pandas
    /tmp/vllm/bin/python scripts/dataset-vectors.py

Made with vLLM 0.30. Prompts are kept as the first 16 digits of their SHA-256, with their lengths.
"""

import hashlib
import json
import logging
import random
import tempfile
from pathlib import Path

import numpy as np
from vllm.benchmarks.datasets import datasets as vllm
from vllm.tokenizers import get_tokenizer

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "tests" / "data" / "tiny-tokenizer"
SONNETS = ROOT / "datasets" / "sonnets.txt"
OUT = ROOT / "tests" / "golden" / "dataset-vectors.json"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made(requests):
    return [[digest(r.prompt), r.prompt_len, r.expected_output_len] for r in requests]


def facts(tokenizer):
    texts = ["", " ", "a", "Shall I  compare thee\n\n  to 12345 days?", "élan vital 木🌳", "<|begin|>x<|end|> ",
             "don't WE'LL ſ's", "\t\r\n \u00a0\u2003x", "a" * 300, "e\u0301 \ufb01 \u200b"]
    return {
        "vocab_size": tokenizer.vocab_size,
        "special_ids": tokenizer.all_special_ids,
        "num_special_tokens_to_add": tokenizer.num_special_tokens_to_add(),
        "encoded": [[text, tokenizer(text).input_ids, tokenizer.encode(text, add_special_tokens=False)]
                    for text in texts],
        "decoded": [[ids, tokenizer.decode(ids)] for ids in
                    [[], [0, 5, 1200], [200, 201, 202, 150, 68], list(range(300, 330)), [9999, 70]]],
    }


def sonnet(tokenizer):
    for seed in (0, 7, 2**32 - 1):
        for input_len, prefix_len in ((550, 200), (131, 61)):
            for formatted in (True, False):
                random.seed(seed)
                requests = vllm.SonnetDataset(dataset_path=str(SONNETS)).sample(
                    tokenizer, 12, input_len=input_len, prefix_len=prefix_len, output_len=9,
                    return_prompt_formatted=formatted)
                yield {"seed": seed, "input_len": input_len, "prefix_len": prefix_len, "output_len": 9,
                       "templated": formatted, "made": made(requests)}


def randoms(tokenizer):
    shapes = [
        (1024, 128, 0.0, 0), (1024, 128, 0.0, 100), (100, 20, 0.3, 0), (100, 20, {"input": 0.5, "output": 0.0}, 7),
        (1, 1, 0.0, 3), (300, 7, 0.99, 0), (33, 0, 0.0, 0),
    ]
    for seed in (0, 1, 2**32 - 1):
        for input_len, output_len, ratio, prefix_len in shapes:
            requests = vllm.RandomDataset(random_seed=seed).sample(
                tokenizer, 24, input_len=input_len, output_len=output_len, range_ratio=ratio,
                prefix_len=prefix_len)
            both = ratio if isinstance(ratio, dict) else {"input": ratio, "output": ratio}
            yield {"seed": seed, "input_len": input_len, "output_len": output_len, "range": both,
                   "prefix_len": prefix_len, "made": made(requests)}


def conversations():
    draw = random.Random(11)
    lines = SONNETS.read_text(encoding="utf-8").split("\n")
    data = []
    for i in range(60):
        turns = draw.choice([0, 1, 2, 2, 2, 3])
        said = [" ".join(draw.choices(lines, k=draw.choice([0, 1, 2, 5, 30, 80]))) for _ in range(turns)]
        entry = {"id": str(i), "conversations": [{"from": "human", "value": text} for text in said]}
        data.append(entry if i % 13 else {"id": str(i)})
    return data


def sharegpt(tokenizer):
    data = conversations()
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        for seed in (0, 5):
            for count, output_len, oversample in ((5, None, True), (80, None, True), (80, 2, True), (80, None, False)):
                requests = vllm.ShareGPTDataset(dataset_path=file.name, random_seed=seed).sample(
                    tokenizer, count, output_len=output_len, no_oversample=not oversample)
                yield {"seed": seed, "num_prompts": count, "output_len": output_len, "oversample": oversample,
                       "made": made(requests)}


def custom(tokenizer):
    lines = [{"prompt": line, "output_tokens": i + 1} for i, line in enumerate(SONNETS.read_text().split("\n")[:9])]
    text = "".join(json.dumps(line) + "\n" + ("\n" if i % 4 == 1 else "") for i, line in enumerate(lines))
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        for skip in (False, True):
            requests = vllm.CustomDataset(dataset_path=file.name, random_seed=3).sample(
                tokenizer, 14, output_len=-1, skip_chat_template=skip)
            yield {"text": text, "seed": 3, "num_prompts": 14, "skip_chat_template": skip, "made": made(requests)}


def numpy_draws():
    for seed in (0, 1, 12345, 2**32 - 1):
        rng = np.random.default_rng(seed)
        ranges = [(0, 1), (5, 6), (0, 2), (0, 7), (0, 1200), (0, 128256), (100, 2**32), (0, 2**32 + 5), (0, 2**62), (3, 100)]
        yield {"seed": seed, "draws": [[low, high, rng.integers(low, high, size=5).tolist()] for low, high in ranges]}


def main():
    logging.disable(logging.CRITICAL)
    tokenizer = get_tokenizer(str(TOKENIZER))
    content = {
        "facts": facts(tokenizer),
        "sonnet": list(sonnet(tokenizer)),
        "random": list(randoms(tokenizer)),
        "conversations": conversations(),
        "sharegpt": list(sharegpt(tokenizer)),
        "custom": list(custom(tokenizer)),
        "integers": list(numpy_draws()),
    }
    # One case a line keeps the file small and its differences readable.
    parts = []
    for key, value in content.items():
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in value)
            parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    OUT.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(f"{OUT}: {OUT.stat().st_size} bytes")


main()
