"""Chat templates in the shapes of well-known ones, and a tokenizer that has their special tokens."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Final, NamedTuple

from transformers import PreTrainedTokenizerFast

from server.config import default_cache_dir
from server.demo.base import BASE, QUANTIZATION
from server.engine.base_model import prepare_base
from server.engine.base_progress import SilentProgress

SPECIAL: Final = (
    "<s>",
    "</s>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
)


class Shape(NamedTuple):
    """`before` and `end` are what stands around the answer of a turn; `rows` is how many a two-turn chat becomes."""

    template: str
    before: str
    end: str
    rows: int = 1
    has_system: bool = True


_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_CHATML_PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

SHAPES: Final = {
    "chatml": Shape(_CHATML + _CHATML_PROMPT, "<|im_start|>assistant\n", "<|im_end|>"),
    "chatml without a generation prompt": Shape(_CHATML, "<|im_end|>\n", "<|im_end|>"),
    "chatml that always writes one": Shape(
        _CHATML + "{{ '<|im_start|>assistant\n' }}", "<|im_start|>assistant\n", "<|im_end|>"
    ),
    # Two rows, for this tokenizer has one token for two line breaks at the end of a text, and two before a word.
    "llama 3": Shape(
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        rows=2,
    ),
    "mistral": Shape(
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% else %}{{ raise_exception('no system') }}{% endif %}"
        "{% endfor %}",
        "[/INST]",
        "</s>",
        has_system=False,
    ),
    # The system prompt goes into the last question, so that earlier ones look otherwise than they did when asked.
    "mistral with a system prompt": Shape(
        "{% set system = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{% if loop.index0 >= messages | length - 2 %}{{ system }}{% endif %}{{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}",
        "[/INST]",
        "</s>",
        rows=2,
    ),
    "gemma": Shape(
        "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<start_of_turn>model\n",
        "<end_of_turn>",
        has_system=False,
    ),
    # Thoughts stay in the last turn only, where an empty one is written if there is none.
    "qwen 3": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}"
        "{% set parts = m.content.split('</think>') %}"
        "{% if loop.last %}<think>\n{{ parts[0].replace('<think>', '').strip() if parts | length > 1 }}\n</think>\n\n"
        "{% endif %}{{ parts[-1].strip() }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        + _CHATML_PROMPT,
        "<|im_start|>assistant\n",
        "<|im_end|>",
        rows=2,
    ),
    "tagged": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + _CHATML_PROMPT,
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    # The generation prompt opens a thought that is not in the conversation; only the tags say what is learnt.
    "tagged, with a prompt of its own": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{%- generation -%}{{ m.content }}<|im_end|>{%- endgeneration -%}\n"
        "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "words alone": Shape(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "assistant:",
        "<|im_end|>",
        rows=2,
    ),
}


def base_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """The demo model's tokenizer; with another template it has every special token of SPECIAL, too."""
    tokenizer = deepcopy(_loaded(with_special=template is not None))
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def text_of(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of tokens, special ones included."""
    return str(tokenizer.decode(list(ids)))


@cache
def _loaded(*, with_special: bool) -> PreTrainedTokenizerFast:
    prepared = prepare_base(BASE, quantization=QUANTIZATION, cache_dir=default_cache_dir(), progress=SilentProgress())
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(prepared.directory)
    if with_special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer
