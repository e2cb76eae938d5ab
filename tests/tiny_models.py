"""Tiny random models of every architecture that is promised, as checkpoint directories."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 260
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
    "initializer_range": 0.25,
}

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SIZES, tie_word_embeddings=True),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=24),
    "qwen2": lambda: Qwen2Config(**_SIZES),
    "qwen3": lambda: Qwen3Config(**_SIZES, head_dim=32),
    "gemma2": lambda: Gemma2Config(
        **_SIZES,
        head_dim=16,
        sliding_window=24,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=10.0,
        tie_word_embeddings=False,
    ),
    "gemma3": lambda: Gemma3TextConfig(**_SIZES, head_dim=16, sliding_window=24, tie_word_embeddings=False),
    "phi3": lambda: Phi3Config(**_SIZES, sliding_window=24),
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: token i is byte i of the byte-level alphabet; 256 to 258 are special."""
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    fast.chat_template = (
        "{% for message in messages %}<bos>{{ message['role'] }}: {{ message['content'] }}<eos>{% endfor %}"
        "{% if add_generation_prompt %}<bos>assistant: {% endif %}"
    )
    return fast


def write_tiny_model(kind: str, directory: Path, *, seed: int = 0) -> Path:
    """Save a random model of an architecture in CONFIGS, with its tokenizer, as safetensors."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](), dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") or "layernorm" in name:
            torch.nn.init.normal_(parameter, mean=0.0 if "gemma" in kind else 1.0, std=0.2)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory
