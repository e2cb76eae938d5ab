"""What the `switchyard adapters` commands show to people."""

import re
from typing import Any

from rich.table import Table

_MILLISECONDS = re.compile(r"\.[0-9]+")
_SHORT_DIGEST = len("sha256:") + 12


def alias_table(adapters: list[dict[str, Any]], *, narrow: bool) -> Table:
    """Every alias of the adapters, a row for each."""
    table = Table("adapter", "alias", "method", "rank", "published")
    table.add_column("digest", overflow="fold")
    for adapter in adapters:
        versions = {version["digest"]: version for version in adapter["versions"]}
        for alias, digest in adapter["aliases"].items():
            version = versions[digest]
            method, rank = version["metadata"]["method"], _ranks(version["metadata"])
            published = version["created"]
            if narrow:
                published, digest = _MILLISECONDS.sub("", published), short(digest)
            table.add_row(adapter["id"], alias, method, rank, published, digest)
    return table


def version_table(adapter: dict[str, Any]) -> Table:
    """The versions of one adapter."""
    table = Table("aliases", "method", "rank", "dtype", "bytes", "published", "state", "tags", title=adapter["id"])
    table.add_column("digest", overflow="fold")
    for version in adapter["versions"]:
        digest, metadata = version["digest"], version["metadata"]
        aliases = ", ".join(alias for alias, target in adapter["aliases"].items() if target == digest)
        state = "collected" if version["collected"] else "retired" if version["retired"] else "live"
        table.add_row(
            aliases,
            metadata["method"],
            _ranks(metadata),
            metadata["dtype"],
            f"{metadata['tensor_bytes']:,}",
            version["created"],
            state,
            ", ".join(version["notes"].get("tags", ())),
            digest,
        )
    return table


def history_table(adapter: dict[str, Any]) -> Table:
    """Where the aliases of one adapter have been, the newest move of each last."""
    table = Table("alias", "moved", "by", title=adapter["id"])
    table.add_column("digest", overflow="fold")
    for alias, moves in adapter["history"].items():
        for move in moves:
            table.add_row(alias, move["moved"], move["reason"], move["digest"])
    return table


def moved(answer: dict[str, Any]) -> str:
    """The sentence for an alias that was moved, or was there already."""
    if answer["previous"] == answer["digest"]:
        return f"{answer['id']}@{answer['alias']} is already {answer['digest']}"
    before = f", before {answer['previous']}" if answer["previous"] else ""
    return f"{answer['id']}@{answer['alias']} is now {answer['digest']}{before}"


def short(digest: str) -> str:
    """A digest for where there is little room."""
    return f"{digest[:_SHORT_DIGEST]}…"


def _ranks(metadata: dict[str, Any]) -> str:
    low, high = metadata["rank_min"], metadata["rank_max"]
    return str(low) if low == high else f"{low}-{high}"
