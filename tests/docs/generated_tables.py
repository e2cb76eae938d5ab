"""The tables of the reference pages, written from the code: `make docs` renews them, a test compares.

A table stands between two comments. The first names its kind and what it is of; the rest of a page is prose.

    <!-- settings: host port -->
    …
    <!-- end -->
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import adapters_store.errors
import server.api.errors
import server.errors
from adapters_store import AdapterStore
from server.api.app import create_app
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import CompletionRequest
from server.api.protocol.constraint_fields import ConstraintFields
from server.api.protocol.generate_request import GenerateBody, GenerateParameters
from server.api.protocol.generation_request import NEUTRAL, GenerationRequest
from server.api.protocol.strict_fields import Neutral, StrictFields
from server.api.protocol.tool_fields import ToolFields
from server.config import Settings
from server.errors import BaseModelError, ConfigurationError, SwitchyardError
from tests.api.scripted_engine import ScriptedEngine, model_info, saying
from tests.docs.pages import REFERENCE, field_rows, metric_families, metric_row, neutral_row, setting_row

_TABLE = re.compile(r"(<!-- (\w+): *([^>]*?) *-->\n).*?(<!-- end -->)", re.DOTALL)
_ERROR_MODULES = frozenset(
    {server.errors.__name__, server.api.errors.__name__, adapters_store.errors.__name__},
)
_NEVER_ANSWERED = frozenset({ConfigurationError.code, BaseModelError.code})
_OTHER_ERRORS = {
    "internal_error": (500, "An error of the server's own; the log has it under the request id."),
    "method_not_allowed": (405, "The path has no such method; `Allow` has those that it has."),
}
_REQUESTS: dict[str, type[StrictFields]] = {
    request.__name__: request
    for request in (
        GenerationRequest,
        ConstraintFields,
        CompletionRequest,
        ChatRequest,
        ToolFields,
        GenerateBody,
        GenerateParameters,
    )
}


def written(page: str) -> str:
    """A page with its tables as the code has them now."""
    return _TABLE.sub(lambda found: f"{found[1]}{_table(found[2], found[3].split())}{found[4]}", page)


def named(kind: str) -> set[str]:
    """What the tables of one kind, on all pages, are of."""
    pages = (page.read_text() for page in REFERENCE.glob("*.md"))
    return {name for page in pages for found in _TABLE.finditer(page) if found[2] == kind for name in found[3].split()}


def _table(kind: str, names: list[str]) -> str:
    heading, rows = _KINDS[kind]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|", *rows(names)]
    return "\n".join(lines) + "\n"


def _settings(names: list[str]) -> Iterator[str]:
    return (setting_row(name) for name in names)


def _metrics(names: list[str]) -> Iterator[str]:
    rows = metric_rows()
    return (rows[name] for name in names)


@cache
def metric_rows() -> dict[str, str]:
    """The row of every metric, by its name as it is scraped."""
    rows = [metric_row(family) for family in metric_families()]
    return {row.split("`")[1]: row for row in rows}


def _endpoints(tags: list[str]) -> Iterator[str]:
    for tag, method, path, description in operations():
        if tag in tags:
            yield f"| `{method} {path}` | {_first_sentence(description)} |"


@cache
def operations() -> tuple[tuple[str, str, str, str], ...]:
    """Tag, method, path and description of every operation of the OpenAPI document."""
    with tempfile.TemporaryDirectory() as directory:
        engine = ScriptedEngine(model_info(Path(directory)), saying([]))
        paths: dict[str, Any] = create_app(Settings(), engine, AdapterStore(Path(directory) / "store")).openapi()[
            "paths"
        ]
    return tuple(
        (operation["tags"][0], method.upper(), path, operation["description"])
        for path, by_method in paths.items()
        for method, operation in by_method.items()
    )


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).rstrip(".").replace("|", "\\|")


def _fields(names: list[str]) -> Iterator[str]:
    return (row for name in names for row in field_rows(_REQUESTS[name]))


def _neutral(names: list[str]) -> Iterator[str]:
    for name in names:
        own = _own_neutral(name)
        yield from (neutral_row(field, own[field]) for field in sorted(own))


def _own_neutral(name: str) -> dict[str, Neutral]:
    """Of the fields that a request does not act on, those that no table of another request has."""
    endpoints = (CompletionRequest, ChatRequest)
    if name == GenerationRequest.__name__:
        shared = NEUTRAL.items()
        return {field: neutral for field, neutral in shared if any(e.neutral.get(field) is neutral for e in endpoints)}
    return {field: neutral for field, neutral in _REQUESTS[name].neutral.items() if NEUTRAL.get(field) is not neutral}


def _errors(_: list[str]) -> Iterator[str]:
    found = dict(_OTHER_ERRORS)
    for error in _classes(SwitchyardError):
        if error.__module__ in _ERROR_MODULES and error.code not in _NEVER_ANSWERED and error.code not in found:
            found[error.code] = (error.status, _first_sentence(error.__doc__ or "") + ".")
    for code, (status, text) in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
        yield f"| `{code}` | {status} | {text} |"


def _classes(error: type[SwitchyardError]) -> Iterator[type[SwitchyardError]]:
    yield error
    for child in error.__subclasses__():
        yield from _classes(child)


_KINDS: dict[str, tuple[tuple[str, ...], Callable[[list[str]], Iterator[str]]]] = {
    "settings": (("setting", "default", "meaning"), _settings),
    "metrics": (("metric", "type", "labels", "meaning"), _metrics),
    "endpoints": (("endpoint", "does"), _endpoints),
    "fields": (("field", "meaning"), _fields),
    "neutral": (("field", "accepted"), _neutral),
    "errors": (("code", "status", "what happened"), _errors),
}


def main() -> int:
    """Write the tables of every reference page anew."""
    for path in sorted(REFERENCE.glob("*.md")):
        before = path.read_text()
        after = written(before)
        if after != before:
            path.write_text(after)
            sys.stderr.write(f"{path.name}: written anew\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
