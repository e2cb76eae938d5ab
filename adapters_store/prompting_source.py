"""From the tokenizer and generation files of a PEFT directory to what the adapter does differently from the base."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from adapters_store.adapter_files import GENERATION_CONFIG_FILE, PROMPTING_FILE, TOKENIZER_FILE
from adapters_store.adapter_prompting import (
    MAX_ADDED_TOKENS,
    MAX_PROMPTING_BYTES,
    MAX_STOP_STRING_CHARS,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
    AdapterPrompting,
    AddedToken,
    TokenId,
    check_sampling,
    decode_prompting,
)
from adapters_store.base_tokenizer import BaseTokenizer
from adapters_store.errors import InvalidAdapter
from adapters_store.quoting import quoted
from adapters_store.tokenizer_directory import (
    TokenizerDirectory,
    Vocabulary,
    optional_content,
    optional_json,
    read_tokenizer,
    template_sha256,
)

_MAX_GENERATION_CONFIG_BYTES: Final = 1024 * 1024


class _GenerationConfig(msgspec.Struct, frozen=True):
    """`generation_config.json`, as far as it is acted on."""

    eos_token_id: TokenId | list[TokenId] | None = None
    stop_strings: str | list[str] | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def read_prompting(directory: Path, base: BaseTokenizer | None) -> AdapterPrompting:
    """What an adapter's directory says of prompts and answers that the base does not.

    A `prompting.json`, as versions have it, is taken alone. Otherwise it is derived from the tokenizer files and
    `generation_config.json`. Of a tokenizer only added tokens are taken: its other tokens must be the base's. Without
    a base to compare with, all added tokens count as the adapter's.

    Raises:
        InvalidAdapter: a file is malformed or too large, or the tokenizer does not fit the base; `param` names it.
    """
    content = optional_content(directory / PROMPTING_FILE, MAX_PROMPTING_BYTES)
    if content is not None:
        prompting = decode_prompting(content)
        _check_rows(prompting.added_tokens, base, PROMPTING_FILE)
        return prompting
    tokenizer = read_tokenizer(directory)
    generation = optional_json(directory / GENERATION_CONFIG_FILE, _GenerationConfig, _MAX_GENERATION_CONFIG_BYTES)
    template = tokenizer.chat_template
    if template is not None and base is not None and template_sha256(template) == base.chat_template:
        template = None
    known_roles = base.special_tokens if base is not None else {}
    return AdapterPrompting(
        chat_template=template,
        added_tokens=_own_tokens(tokenizer, base),
        special_tokens={role: text for role, text in tokenizer.special_tokens.items() if known_roles.get(role) != text},
        stop_token_ids=_stop_token_ids(generation, base),
        stop_strings=_stop_strings(generation),
        sampling=_sampling(generation),
    )


def _own_tokens(tokenizer: TokenizerDirectory, base: BaseTokenizer | None) -> tuple[AddedToken, ...]:
    """The added tokens that the base does not have, or has otherwise; sorted by id."""
    known = set(base.added_tokens) if base is not None else set()
    own = tuple(sorted((token for token in tokenizer.added_tokens if token not in known), key=lambda token: token.id))
    if base is not None:
        _check_rows(own, base, TOKENIZER_FILE)
        if tokenizer.vocabulary is not None:
            _check_vocabulary(tokenizer.vocabulary, base)
    if tokenizer.vocabulary is not None:
        _check_overlap(own, tokenizer.vocabulary)
    if len(own) > MAX_ADDED_TOKENS:
        raise InvalidAdapter(
            f"{TOKENIZER_FILE} adds {len(own)} tokens, more than the {MAX_ADDED_TOKENS} allowed", param=TOKENIZER_FILE
        )
    return own


def _check_rows(tokens: Iterable[AddedToken], base: BaseTokenizer | None, file_name: str) -> None:
    """Raises InvalidAdapter where a token has no row in the base's embedding."""
    for token in tokens:
        if base is not None and token.id >= base.embedding_rows:
            raise InvalidAdapter(
                f"{file_name} adds the token {quoted(token.content)} as id {token.id}, for which the base has no "
                f"embedding row: its ids end at {base.embedding_rows - 1}; train with tokens that the base has (many "
                "have reserved ones), without resizing the embedding",
                param=file_name,
            )


def _check_vocabulary(vocabulary: Vocabulary, base: BaseTokenizer) -> None:
    if vocabulary.fingerprint() == base.vocabulary:
        return
    largest = max(vocabulary.ids.values(), default=0)
    reason = (
        f"its ids go up to {largest}, for which the base has no embedding rows (they end at {base.embedding_rows - 1})"
        if largest >= base.embedding_rows
        else "its vocabulary or merges are not the base's"
    )
    raise InvalidAdapter(
        f"{TOKENIZER_FILE} is another tokenizer than that of the base: {reason}; remove the file if the adapter was "
        "trained with the base's own",
        param=TOKENIZER_FILE,
    )


def _check_overlap(tokens: Iterable[AddedToken], vocabulary: Vocabulary) -> None:
    """Raises InvalidAdapter where an added token would take the id of an ordinary one."""
    contents = {token_id: content for content, token_id in vocabulary.ids.items()}
    for token in tokens:
        if token.id in contents:
            raise InvalidAdapter(
                f"{TOKENIZER_FILE} adds the token {quoted(token.content)} as id {token.id}, which is "
                f"{quoted(contents[token.id])} in its vocabulary",
                param=TOKENIZER_FILE,
            )


def _stop_token_ids(generation: _GenerationConfig | None, base: BaseTokenizer | None) -> tuple[int, ...]:
    value = generation.eos_token_id if generation is not None else None
    ids = [] if value is None else [value] if isinstance(value, int) else value
    known = base.eos_token_ids if base is not None else ()
    own = tuple(sorted({token_id for token_id in ids if token_id not in known}))
    if len(own) > MAX_STOP_TOKEN_IDS:
        raise _refused("eos_token_id", f"has {len(own)} ids; at most {MAX_STOP_TOKEN_IDS} are allowed")
    if base is not None and own and own[-1] >= base.embedding_rows:
        raise _refused("eos_token_id", f"has {own[-1]}; the base's token ids end at {base.embedding_rows - 1}")
    return own


def _stop_strings(generation: _GenerationConfig | None) -> tuple[str, ...]:
    value = generation.stop_strings if generation is not None else None
    stops = tuple(dict.fromkeys([value] if isinstance(value, str) else value or ()))
    if len(stops) > MAX_STOP_STRINGS:
        raise _refused("stop_strings", f"has {len(stops)} strings; at most {MAX_STOP_STRINGS} are allowed")
    if not all(0 < len(stop) <= MAX_STOP_STRING_CHARS for stop in stops):
        raise _refused("stop_strings", f"has a string that is empty or longer than {MAX_STOP_STRING_CHARS} characters")
    return stops


def _sampling(generation: _GenerationConfig | None) -> dict[str, float]:
    """Defaults by field. An explicit `do_sample: false` takes the likeliest token, as with transformers."""
    if generation is None:
        return {}
    found: Mapping[str, float | None] = {
        "min_p": generation.min_p,
        "repetition_penalty": generation.repetition_penalty,
        "temperature": generation.temperature,
        "top_k": generation.top_k,
        "top_p": generation.top_p,
    }
    sampling = {field: float(value) for field, value in found.items() if value is not None}
    if generation.do_sample is False:
        sampling = {field: value for field, value in sampling.items() if field == "repetition_penalty"}
        sampling["temperature"] = 0.0
    check_sampling(sampling, GENERATION_CONFIG_FILE)
    return sampling


def _refused(field: str, reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{field} in {GENERATION_CONFIG_FILE} {reason}", param=field)
