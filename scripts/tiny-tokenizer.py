#!/usr/bin/env python3
"""Trains the small tokenizer that the tests count with, on the project's own verse, into tests/data/tiny-tokenizer.

    python3 -m venv /tmp/vectors && /tmp/vectors/bin/pip install tokenizers
    /tmp/vectors/bin/python scripts/tiny-tokenizer.py

A byte-level BPE of 1,200 tokens with the kind of pattern that Llama 3 and Qwen split text by, so that its
lookahead is tested too. After a change run scripts/dataset-vectors.py as well.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "data" / "tiny-tokenizer"
SPECIAL = ["<|begin|>", "<|end|>", "<|role|>"]
# Contractions, a word with the mark before it, up to three digits, other marks, line ends, spaces.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|role|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|role|>assistant\n{% endif %}"
)


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=SPECIAL[:1], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(ROOT / "datasets" / "sonnets.txt")], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    begin = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    OUT.mkdir(parents=True, exist_ok=True)
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (OUT / "tokenizer.json").write_text(compact + "\n", encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>"}
    config["eos_token"] = {"__type": "AddedToken", "content": "<|end|>", "lstrip": False, "normalized": False}
    config["eos_token"] |= {"rstrip": False, "single_word": False, "special": True}
    config["extra_special_tokens"] = ["<|role|>"]
    (OUT / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (OUT / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


main()
