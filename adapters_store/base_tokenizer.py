"""The base's tokenizer, as far as an adapter's must fit it, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapters_store.adapter_prompting import AddedToken
from adapters_store.errors import InvalidAdapter
from adapters_store.tokenizer_directory import read_tokenizer, template_sha256


@dataclass(frozen=True, slots=True)
class BaseTokenizer:
    """What tells an adapter's tokenizer from the base's.

    `embedding_rows` is how many token ids the model has, `eos_token_ids` are those that end its answers. `vocabulary`
    is a fingerprint of the vocabulary and merges without added tokens, `chat_template` the SHA-256 of the template's
    text; either is None where there is none.
    """

    embedding_rows: int
    vocabulary: str | None = None
    added_tokens: tuple[AddedToken, ...] = ()
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    eos_token_ids: tuple[int, ...] = ()
    chat_template: str | None = None


def describe_tokenizer(
    directory: Path, *, embedding_rows: int, eos_token_ids: tuple[int, ...] = ()
) -> BaseTokenizer | None:
    """Describe the tokenizer in a base model's directory; None where it has none in a form that can be compared.

    Raises:
        OSError: a file cannot be read.
    """
    try:
        tokenizer = read_tokenizer(directory)
    except InvalidAdapter:
        return None
    if tokenizer.vocabulary is None:
        return None
    return BaseTokenizer(
        embedding_rows=embedding_rows,
        vocabulary=tokenizer.vocabulary.fingerprint(),
        added_tokens=tokenizer.added_tokens,
        special_tokens=tokenizer.special_tokens,
        eos_token_ids=eos_token_ids,
        chat_template=None if tokenizer.chat_template is None else template_sha256(tokenizer.chat_template),
    )
