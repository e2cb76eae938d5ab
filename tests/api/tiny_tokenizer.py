"""A real but tiny tokenizer: byte-level BPE with a chat template, made on the spot."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "The capital of France is Paris. The quick brown fox jumps over the lazy dog.",
    "user assistant system: hello hello world, how are you today? I am fine, thank you.",
    "Grüße aus Köln: schöne Straße. Ça va très bien, café déjà vu. 東京は日本の首都です。",
)

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'assistant' %}"
    "{{ raise_exception('no conversation starts with the assistant') }}"
    "{% endif -%}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level_tokenizer() -> Tokenizer:
    """Byte-level BPE with a few merges, some of which end inside a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback_tokenizer() -> Tokenizer:
    """SentencePiece's manner: words begin with U+2581, and unknown characters are spelt in bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "▁cat", "s", "a", "t"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def write_tokenizer(
    directory: Path, *, chat_template: str | None = CHAT_TEMPLATE, tokenizer: Tokenizer | None = None
) -> Path:
    """Save a tokenizer, the byte-level one by default, to `directory` in the form that a model's directory has."""
    fast_tokenizer: Any = PreTrainedTokenizerFast
    fast = fast_tokenizer(
        tokenizer_object=tokenizer or byte_level_tokenizer(),
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
    )
    if chat_template is not None:
        fast.chat_template = chat_template
    fast.save_pretrained(directory)
    return directory
