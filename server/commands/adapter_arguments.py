"""What the `switchyard adapters` commands are given, read with messages that say how to write it."""

from pathlib import Path
from urllib.parse import urlsplit

import typer

from adapters_store import InvalidName, parse_adapter_name, parse_adapter_ref
from adapters_store.hub_source import HUB_PREFIX, HubSource, parse_hub_source
from adapters_store.names import AdapterName, AdapterRef
from adapters_store.quoting import quoted
from server.commands.failure import CommandFailed

_NAME = "NAME or TENANT/NAME of letters, digits, . _ -"


def published_name(text: str) -> AdapterName:
    """The name to publish under.

    Raises:
        CommandFailed: it is outside the grammar.
    """
    try:
        return parse_adapter_name(text)
    except InvalidName:
        raise CommandFailed(
            f"{quoted(text)} is no adapter's name: give {_NAME}; choose the alias with --alias"
        ) from None


def adapter_source(text: str) -> Path | HubSource:
    """Where an adapter is pushed from.

    Raises:
        InvalidAdapter: it begins as a place on a hub does, and is none.
    """
    return parse_hub_source(text) if text.startswith(HUB_PREFIX) else Path(text)


def promoted_version(text: str) -> AdapterRef:
    """The version to promote.

    Raises:
        CommandFailed: it is outside the grammar.
    """
    try:
        return parse_adapter_ref(text)
    except InvalidName:
        raise CommandFailed(_no_version(text)) from None


def exact_version(text: str) -> tuple[AdapterName, str]:
    """The name and digest of a version that must be given by its digest.

    Raises:
        CommandFailed: it is outside the grammar, or has no digest.
    """
    ref = promoted_version(text)
    if ref.digest is None:
        raise CommandFailed(
            f"{quoted(text)} names no digest: give NAME@sha256:DIGEST, as `switchyard adapters show {ref.name}` has it"
        )
    return ref.name, ref.digest


def _no_version(text: str) -> str:
    name, _, selector = text.partition("@")
    if selector.startswith("sha256:") and _is_name(name):
        return (
            f"{quoted(selector)} is no whole digest: give `sha256:` and all 64 lower-case hex digits, as "
            f"`switchyard adapters show {name} --json` prints them"
        )
    return (
        f"{quoted(text)} is no version: give {_NAME}, followed by @ALIAS or @sha256:DIGEST where it is not latest; "
        "choose the alias to move with --alias"
    )


def _is_name(text: str) -> bool:
    try:
        parse_adapter_name(text)
    except InvalidName:
        return False
    return True


def server_url(text: str | None) -> str | None:
    """The root of a server's URL, without the `/v1` that clients of OpenAI write after it.

    Raises:
        typer.BadParameter: it is no http or https URL.
    """
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        complete = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        complete = False
    if not complete:
        raise typer.BadParameter(f"{quoted(text)} is no http:// or https:// URL: write it as http://127.0.0.1:8000")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")
