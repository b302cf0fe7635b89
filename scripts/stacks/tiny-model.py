"""Makes a tiny model with random weights and a tokenizer trained on a text: enough to speak vLLM's protocol.

usage: tiny-model.py OUT TEXT..."""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

out, texts = sys.argv[1], sys.argv[2:]
CONTEXT = 8192
END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=[END, TURN, TURN_END], initial_alphabet=alphabet)
tokenizer.train(texts, trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT)
fast.chat_template = (
    "{% for turn in messages %}" + TURN + "{{ turn['role'] }}\n{{ turn['content'] }}" + TURN_END + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + TURN + "assistant\n{% endif %}"
)
fast.save_pretrained(out)

torch.manual_seed(11)
config = Qwen2Config(
    vocab_size=len(fast),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=CONTEXT,
    # Wide enough that greedy answers vary from prompt to prompt.
    initializer_range=0.35,
    tie_word_embeddings=False,
    eos_token_id=0,
    bos_token_id=0,
    pad_token_id=0,
    dtype="float32",
)
model = Qwen2ForCausalLM(config).float()
model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
model.save_pretrained(out, safe_serialization=True)
