"""The grammar of model names, and its one parser.

    request = task | model
    task    = "task:" name
    model   = [ base ":" ] adapter *( "+" adapter )
    adapter = [ tenant "/" ] name [ "@" alias | "@sha256:" 64 hex digits ]

`tenant`, `name` and `alias` are slugs: ASCII letters, digits, `.`, `_` and `-`, a letter or digit first, at
most 96 characters. So no part of a name can be a path, an option or an empty string. `base` before the first
colon is either the word `base` or the served base's own id (which may hold `/` and `.`); this module keeps it
as text, and its caller compares it. The adapter name `base` is the bare model. A task is a route to adapters.

The values check themselves: one that exists is valid, and `str()` of it parses back to an equal one.
"""

import re
from dataclasses import dataclass
from typing import Final

from adapters_store.errors import InvalidName
from adapters_store.quoting import quoted

GRAMMAR: Final = "[base:][tenant/]name[@alias|@sha256:<64 hex digits>]"
MAX_SLUG_CHARS: Final = 96
MAX_MODEL_NAME_CHARS: Final = 512
LATEST: Final = "latest"
BASE_NAME: Final = "base"
TASK_PREFIX: Final = "task:"
RESERVED_NAMES: Final = frozenset({BASE_NAME, "task"})

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BASE_ID = re.compile(r"[^\s:@+\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """What an adapter is called: `name`, or `tenant/name`.

    Raises:
        InvalidName: a part is not a slug.
    """

    tenant: str | None
    name: str

    def __post_init__(self) -> None:
        if self.tenant is not None:
            check_slug(self.tenant, "tenant")
        check_slug(self.name, "adapter name")

    def __str__(self) -> str:
        return self.name if self.tenant is None else f"{self.tenant}/{self.name}"

    @property
    def is_reserved(self) -> bool:
        """Whether the name has a meaning of its own (`base`, `task`) and so cannot be published."""
        return self.name in RESERVED_NAMES


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A name with what selects one version of it: an alias, a digest ("sha256:…"), or neither (`latest`).

    Raises:
        InvalidName: the alias is no slug, the digest is malformed, both are given, or the base has either.
    """

    name: AdapterName
    alias: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.alias is not None:
            check_slug(self.alias, "alias")
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise _invalid("digest", self.digest, "is not `sha256:` and 64 lower-case hex digits")
        if self.alias is not None and self.digest is not None:
            raise _invalid("name", str(self.name), "has both an alias and a digest")
        if self.is_base and (self.alias is not None or self.digest is not None):
            raise _invalid("name", BASE_NAME, "is the bare model, which has no aliases and no versions")

    def __str__(self) -> str:
        selector = self.alias if self.alias is not None else self.digest
        return str(self.name) if selector is None else f"{self.name}@{selector}"

    @property
    def is_base(self) -> bool:
        """Whether this is the bare model rather than an adapter."""
        return self.name.tenant is None and self.name.name == BASE_NAME

    @property
    def effective_alias(self) -> str | None:
        """The alias to follow: `latest` when none was written, None when a digest was."""
        if self.digest is not None:
            return None
        return self.alias if self.alias is not None else LATEST


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a request's `model` field says: adapters to compose, in order, on a base that may be named.

    Raises:
        InvalidName: no part, an impossible base id, or more than 512 characters in all.
    """

    base: str | None
    parts: tuple[AdapterRef, ...]

    def __post_init__(self) -> None:
        if self.base == "task":
            raise InvalidName(
                f"`task:` names a task route, and here an adapter is wanted: name the adapter itself, as {GRAMMAR}"
            )
        if self.base is not None and not _BASE_ID.fullmatch(self.base):
            raise _invalid("base", self.base, "must be `base` or the id of the served base")
        if not self.parts:
            raise _invalid("name", "", "names no adapter")
        if len(str(self)) > MAX_MODEL_NAME_CHARS:
            raise _invalid("name", str(self), f"is longer than {MAX_MODEL_NAME_CHARS} characters")

    def __str__(self) -> str:
        parts = "+".join(str(part) for part in self.parts)
        return parts if self.base is None else f"{self.base}:{parts}"


@dataclass(frozen=True, slots=True)
class TaskName:
    """What a task route is called: one slug, with `task:` before it where a model could stand.

    Raises:
        InvalidName: the name is not a slug.
    """

    name: str

    def __post_init__(self) -> None:
        check_slug(self.name, "task")

    def __str__(self) -> str:
        return f"{TASK_PREFIX}{self.name}"


def parse_requested_name(text: str) -> ModelName | TaskName:
    """Parse what a request's `model` field may hold.

    Raises:
        InvalidName: the text is outside the grammar; the message quotes the offending part.
    """
    if text.startswith(TASK_PREFIX):
        return TaskName(text.removeprefix(TASK_PREFIX))
    return parse_model_name(text)


def parse_model_name(text: str) -> ModelName:
    """Parse a model name as a request writes it.

    Raises:
        InvalidName: the text is outside the grammar; the message quotes the offending part.
    """
    if len(text) > MAX_MODEL_NAME_CHARS:
        raise _invalid("name", text, f"is longer than {MAX_MODEL_NAME_CHARS} characters")
    base, parts = _split_base(text)
    return ModelName(base, tuple(parse_adapter_ref(part) for part in parts.split("+")))


def parse_adapter_ref(text: str) -> AdapterRef:
    """Parse one `[tenant/]name[@alias|@sha256:…]`.

    Raises:
        InvalidName: the text is outside the grammar.
    """
    name, at, selector = text.partition("@")
    if not at:
        return AdapterRef(parse_adapter_name(name))
    if selector.startswith("sha256:"):
        return AdapterRef(parse_adapter_name(name), digest=selector)
    return AdapterRef(parse_adapter_name(name), alias=selector)


def parse_adapter_name(text: str) -> AdapterName:
    """Parse one `[tenant/]name`, as an adapter is published, listed or deleted under.

    Raises:
        InvalidName: the text is outside the grammar.
    """
    tenant, slash, name = text.partition("/")
    return AdapterName(tenant, name) if slash else AdapterName(None, text)


def check_slug(text: str, what: str) -> None:
    """Accept a slug; `what` names the part in the error.

    Raises:
        InvalidName: `text` is not a slug.
    """
    if len(text) > MAX_SLUG_CHARS:
        raise _invalid(what, text, f"is longer than {MAX_SLUG_CHARS} characters")
    if not _SLUG.fullmatch(text):
        raise _invalid(what, text, "must be letters, digits, `.`, `_` or `-`, a letter or digit first")


def _split_base(text: str) -> tuple[str | None, str]:
    head, colon, rest = text.partition(":")
    if not colon or head.endswith("@sha256"):
        return None, text
    return head, rest


def _invalid(what: str, text: str, reason: str) -> InvalidName:
    return InvalidName(f"{what} {quoted(text)} {reason}; a model name is {GRAMMAR}")
