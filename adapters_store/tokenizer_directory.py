"""The tokenizer files of a model's or an adapter's directory, read without trusting them and without loading them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from adapters_store.adapter_files import (
    ADDED_TOKENS_FILE,
    CHAT_TEMPLATE_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
)
from adapters_store.adapter_prompting import MAX_TEMPLATE_CHARS, SPECIAL_TOKENS, AddedToken, TokenId
from adapters_store.atomic_file import read_limited
from adapters_store.errors import InvalidAdapter

MIB: Final = 1024 * 1024
MAX_TOKENIZER_BYTES: Final = 48 * MIB
MAX_TOKENIZER_CONFIG_BYTES: Final = 4 * MIB

T = TypeVar("T")


class _Merge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Two pieces that BPE joins, as newer files write them."""

    left: str
    right: str


class _Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One piece of a Unigram vocabulary; its id is its place."""

    content: str
    score: float


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, TokenId] | list[_Piece]
    merges: list[str | _Merge] = []


class _TokenizerFile(msgspec.Struct, frozen=True):
    """`tokenizer.json`, as far as it says which text is which token."""

    model: _Model | None = None
    added_tokens: tuple[AddedToken, ...] = ()


class _TokenFlags(msgspec.Struct, frozen=True):
    """A token in `added_tokens_decoder` or `special_tokens_map.json`."""

    content: str
    special: bool = False
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class _NamedTemplate(msgspec.Struct, frozen=True):
    name: str
    template: str


_Special = str | _TokenFlags | None


class _SpecialTokens(msgspec.Struct, frozen=True):
    """`special_tokens_map.json`, as far as it is acted on."""

    bos_token: _Special = None
    eos_token: _Special = None


class _TokenizerConfig(_SpecialTokens, frozen=True):
    """`tokenizer_config.json`, as far as it is acted on."""

    chat_template: str | list[_NamedTemplate] | None = None
    added_tokens_decoder: dict[str, _TokenFlags] = {}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The texts of a tokenizer's ids without added tokens, and the merges of BPE."""

    ids: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]

    def fingerprint(self) -> str:
        """SHA-256 in hex over ids and merges, whatever version of the library wrote them."""
        hashed = hashlib.sha256()
        hashed.update(msgspec.json.encode(sorted((token_id, content) for content, token_id in self.ids.items())))
        hashed.update(msgspec.json.encode(self.merges))
        return hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class TokenizerDirectory:
    """What the tokenizer files of a directory say; `vocabulary` is None where there is no `tokenizer.json`."""

    chat_template: str | None
    vocabulary: Vocabulary | None
    added_tokens: tuple[AddedToken, ...]
    special_tokens: Mapping[str, str]


def read_tokenizer(directory: Path) -> TokenizerDirectory:
    """Read the tokenizer files that are there.

    Raises:
        InvalidAdapter: one is malformed or too large; `param` names it.
        OSError: one cannot be read.
    """
    config = optional_json(directory / TOKENIZER_CONFIG_FILE, _TokenizerConfig, MAX_TOKENIZER_CONFIG_BYTES)
    file = optional_json(directory / TOKENIZER_FILE, _TokenizerFile, MAX_TOKENIZER_BYTES)
    special = _special_tokens(directory, config)
    return TokenizerDirectory(
        chat_template=_chat_template(directory, config),
        vocabulary=None if file is None or file.model is None else _vocabulary(file.model, file.added_tokens),
        added_tokens=_added_tokens(directory, config, set(special.values())) if file is None else file.added_tokens,
        special_tokens=special,
    )


def template_sha256(template: str) -> str:
    """The SHA-256 of a template's text, in hex. Line ends at its end, which editors add, do not count."""
    return hashlib.sha256(template.rstrip("\r\n").encode("utf-8", "surrogatepass")).hexdigest()


def _chat_template(directory: Path, config: _TokenizerConfig | None) -> str | None:
    """The file of its own goes before the field, as with transformers."""
    content = optional_content(directory / CHAT_TEMPLATE_FILE, 4 * MAX_TEMPLATE_CHARS)
    if content is not None:
        try:
            return _checked(content.decode(), CHAT_TEMPLATE_FILE)
        except UnicodeDecodeError as error:
            raise InvalidAdapter(f"{CHAT_TEMPLATE_FILE} is not UTF-8: {error}", param=CHAT_TEMPLATE_FILE) from error
    template = None if config is None else config.chat_template
    if isinstance(template, list):
        named = {entry.name: entry.template for entry in template}
        if "default" not in named:
            raise InvalidAdapter(
                f"chat_template in {TOKENIZER_CONFIG_FILE} has several templates and none named `default`: name one so",
                param="chat_template",
            )
        template = named["default"]
    return _checked(template, "chat_template") if template else None


def _checked(template: str, param: str) -> str:
    if len(template) > MAX_TEMPLATE_CHARS:
        raise InvalidAdapter(
            f"{param} has {len(template)} characters, more than the {MAX_TEMPLATE_CHARS} allowed", param=param
        )
    return template


def _vocabulary(model: _Model, added_tokens: tuple[AddedToken, ...]) -> Vocabulary:
    added = {token.content for token in added_tokens}
    vocab = model.vocab
    ids = vocab if isinstance(vocab, dict) else {piece.content: index for index, piece in enumerate(vocab)}
    return Vocabulary(
        ids={content: token_id for content, token_id in ids.items() if content not in added},
        merges=tuple(_merge(merge) for merge in model.merges),
    )


def _merge(merge: str | _Merge) -> tuple[str, str]:
    """A merge in either form: `"a b"`, or `["a", "b"]` since pieces may hold spaces."""
    if isinstance(merge, _Merge):
        return merge.left, merge.right
    left, _, right = merge.partition(" ")
    return left, right


def _added_tokens(directory: Path, config: _TokenizerConfig | None, special: set[str]) -> tuple[AddedToken, ...]:
    """The added tokens of a directory without `tokenizer.json`."""
    if config is not None and config.added_tokens_decoder:
        return tuple(_added_token(key, flags) for key, flags in config.added_tokens_decoder.items())
    ids = optional_json(directory / ADDED_TOKENS_FILE, dict[str, TokenId], MAX_TOKENIZER_CONFIG_BYTES) or {}
    flags = {content: content in special for content in ids}
    return tuple(
        _converted({"id": ids[content], "content": content, "special": flag, "normalized": not flag}, ADDED_TOKENS_FILE)
        for content, flag in flags.items()
    )


def _added_token(key: str, flags: _TokenFlags) -> AddedToken:
    if not key.isdecimal() or len(key) > 10:
        raise InvalidAdapter(
            f"added_tokens_decoder in {TOKENIZER_CONFIG_FILE} has a key that is no token id",
            param=TOKENIZER_CONFIG_FILE,
        )
    return _converted({"id": int(key), **msgspec.to_builtins(flags)}, TOKENIZER_CONFIG_FILE)


def _converted(fields: dict[str, Any], file_name: str) -> AddedToken:
    try:
        return msgspec.convert(fields, AddedToken)
    except ValueError as error:
        raise InvalidAdapter(f"{file_name} has a malformed added token: {error}", param=file_name) from error


def _special_tokens(directory: Path, config: _TokenizerConfig | None) -> dict[str, str]:
    """Texts by role; the tokenizer's configuration goes before the map, as with transformers."""
    roles = optional_json(directory / SPECIAL_TOKENS_FILE, _SpecialTokens, MAX_TOKENIZER_CONFIG_BYTES)
    found: dict[str, str] = {}
    for role in SPECIAL_TOKENS:
        value = getattr(config, role, None) or getattr(roles, role, None)
        text = value.content if isinstance(value, _TokenFlags) else value
        if text:
            found[role] = text
    return found


def optional_json(path: Path, kind: type[T], limit: int) -> T | None:
    """The JSON of a file as a value of a type; None where there is no such file."""
    content = optional_content(path, limit)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{path.name} cannot be read: {error}", param=path.name) from error


def optional_content(path: Path, limit: int) -> bytes | None:
    try:
        return read_limited(path, limit)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InvalidAdapter(f"{path.name} is {error}", param=path.name) from error
    except OSError as error:
        raise InvalidAdapter(f"{path.name} cannot be read: {error.strerror or error}", param=path.name) from error
