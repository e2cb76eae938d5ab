"""What an adapter brings beside its weights: how its prompts are written, and how its answers are sampled and end.

It is kept as one small file, `prompting.json`, which is derived once from what the tokenizer and the generation
configuration of a PEFT directory say differently from the base's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from adapters_store.adapter_files import PROMPTING_FILE
from adapters_store.errors import InvalidAdapter
from adapters_store.quoting import quoted

MAX_PROMPTING_BYTES: Final = 1024 * 1024
MAX_TEMPLATE_CHARS: Final = 128 * 1024
MAX_ADDED_TOKENS: Final = 1024
MAX_TOKEN_CHARS: Final = 512
MAX_STOP_STRINGS: Final = 16
MAX_STOP_STRING_CHARS: Final = 512
MAX_STOP_TOKEN_IDS: Final = 64

SPECIAL_TOKENS: Final = ("bos_token", "eos_token")
"""The roles of special tokens that an adapter may fill otherwise than the base, by their names in chat templates.

A padding token is not among them: trainers set one, and nothing is padded here.
"""

SAMPLING_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (1e-2, 1e2),
}
"""The sampling fields that an adapter may have a default for, with their smallest and largest value."""

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class AddedToken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text that is one token, with the flags that the `tokenizers` library has for it."""

    id: TokenId
    content: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN_CHARS)]
    special: bool = False
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class AdapterPrompting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Only what differs from the base; all of it is optional.

    `added_tokens` are sorted by id. `special_tokens` gives texts of tokens by role (`eos_token`); an `eos_token` ends
    answers, as `stop_token_ids` and `stop_strings` do. `sampling` has defaults for fields that a request leaves out.
    """

    chat_template: Annotated[str, msgspec.Meta(max_length=MAX_TEMPLATE_CHARS)] | None = None
    added_tokens: Annotated[tuple[AddedToken, ...], msgspec.Meta(max_length=MAX_ADDED_TOKENS)] = ()
    special_tokens: dict[str, Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN_CHARS)]] = {}
    stop_token_ids: Annotated[tuple[TokenId, ...], msgspec.Meta(max_length=MAX_STOP_TOKEN_IDS)] = ()
    stop_strings: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_STRING_CHARS)], ...],
        msgspec.Meta(max_length=MAX_STOP_STRINGS),
    ] = ()
    sampling: dict[str, float] = {}

    def __bool__(self) -> bool:
        return self != AdapterPrompting()


@dataclass(frozen=True, slots=True)
class PromptingSummary:
    """What a version brings, as far as a list of adapters tells it; `sha256` is that of its `prompting.json`.

    `added_tokens` counts them.
    """

    sha256: _Sha256
    chat_template: bool
    added_tokens: int
    stop_strings: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    sampling: Mapping[str, float]


def encode_prompting(prompting: AdapterPrompting) -> bytes:
    """The content of `prompting.json`; equal values give equal bytes."""
    ordered = msgspec.structs.replace(
        prompting,
        added_tokens=tuple(sorted(prompting.added_tokens, key=lambda token: token.id)),
        special_tokens=dict(sorted(prompting.special_tokens.items())),
        stop_token_ids=tuple(sorted(set(prompting.stop_token_ids))),
        sampling=dict(sorted(prompting.sampling.items())),
    )
    return msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n"


def decode_prompting(content: bytes) -> AdapterPrompting:
    """Read and check a `prompting.json`.

    Raises:
        InvalidAdapter: it is malformed, or beyond a limit; the message names the field.
    """
    try:
        prompting = msgspec.json.decode(content, type=AdapterPrompting)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{PROMPTING_FILE} cannot be read: {error}", param=PROMPTING_FILE) from error
    ids = {token.id for token in prompting.added_tokens}
    contents = {token.content for token in prompting.added_tokens}
    if not len(ids) == len(contents) == len(prompting.added_tokens):
        raise InvalidAdapter(f"{PROMPTING_FILE} has an added token twice", param="added_tokens")
    for role in prompting.special_tokens:
        if role not in SPECIAL_TOKENS:
            raise InvalidAdapter(
                f"{PROMPTING_FILE} has a special token {quoted(role)}, which is none of {', '.join(SPECIAL_TOKENS)}",
                param="special_tokens",
            )
    check_sampling(prompting.sampling, PROMPTING_FILE)
    return prompting


def check_sampling(sampling: Mapping[str, float], file_name: str) -> None:
    """Raises InvalidAdapter where a default is none that a request could have; `param` names the field."""
    for field, value in sampling.items():
        bounds = SAMPLING_BOUNDS.get(field)
        if bounds is None:
            raise InvalidAdapter(f"{file_name} has a default for {quoted(field)}, which has none", param=field)
        if not bounds[0] <= value <= bounds[1] or (field == "top_k" and value != int(value)):
            raise InvalidAdapter(
                f"{file_name} has {field} {value:g}, which must lie between {bounds[0]:g} and {bounds[1]:g}"
                + (" and be an integer" if field == "top_k" else ""),
                param=field,
            )


def summarise_prompting(prompting: AdapterPrompting, content: bytes) -> PromptingSummary:
    """What a list of adapters tells of a `prompting.json` with this content."""
    return PromptingSummary(
        sha256=hashlib.sha256(content).hexdigest(),
        chat_template=prompting.chat_template is not None,
        added_tokens=len(prompting.added_tokens),
        stop_strings=prompting.stop_strings,
        stop_token_ids=prompting.stop_token_ids,
        sampling=prompting.sampling,
    )
