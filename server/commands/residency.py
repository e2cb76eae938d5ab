"""`switchyard adapters usage`, `pin` and `unpin`: what a running server keeps resident, and what nobody asks for."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from server.commands.adapter_arguments import promoted_version
from server.commands.adapter_options import Json, Key, Ref, Url
from server.commands.failure import CommandFailed
from server.commands.output import Output
from server.commands.server_connection import ServerConnection

_BAR = 30


def usage(
    unused_for: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Only adapters that nobody has asked for in so many days."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many adapters.")] = 100,
    url: Url = None,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Adapters by how long nobody has asked for them, and what another device budget would hit.

    \b
    Examples:
      switchyard adapters usage --url http://127.0.0.1:8000
      switchyard adapters usage --unused-for 30 --json --url http://127.0.0.1:8000
    """
    output = Output(as_json=as_json)
    params = {"limit": str(limit)} | ({} if unused_for is None else {"unused_for": f"{unused_for:g}"})
    answer = _server(url, api_key).call("GET", "/v1/adapter_usage", params=params)
    output.table(answer, lambda _narrow: _report(answer, unused_for))


def pin(ref: Ref, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Keep an adapter on the device of a running server, whatever the traffic says.

    \b
    Example:
      switchyard adapters pin acme/support@prod --url http://127.0.0.1:8000
    """
    _pin("pin", ref, url, api_key, as_json=as_json)


def unpin(ref: Ref, url: Url = None, api_key: Key = None, as_json: Json = False) -> None:
    """Take a pin back. One that the server's preload plan has stays.

    \b
    Example:
      switchyard adapters unpin acme/support@prod --url http://127.0.0.1:8000
    """
    _pin("unpin", ref, url, api_key, as_json=as_json)


def _pin(action: str, ref: str, url: str | None, key: str | None, *, as_json: bool) -> None:
    wanted = promoted_version(ref)
    body = {"digest": wanted.digest} if wanted.digest else {"alias": wanted.effective_alias}
    answer = _server(url, key).call("POST", f"/v1/adapters/{wanted.name}/{action}", json=body)
    pins = ", ".join(answer["pins"]) or "nothing"
    Output(as_json=as_json).result(answer, f"{answer['id']} is {action}ned; pinned now: {pins}")


def _server(url: str | None, key: str | None) -> ServerConnection:
    if url is None:
        raise CommandFailed("a running server knows this, not a store: name one with --url")
    return ServerConnection(url, key)


def _report(answer: dict[str, Any], unused_for: float | None) -> RenderableType:
    parts: list[RenderableType] = [_adapters(answer)]
    if answer["cache"] is not None:
        parts += [_curve(answer["cache"]), answer["cache"]["advice"]]
    since = answer["history_since"]
    parts.append(
        f"The history begins {since}." if since else "The history begins now: nobody has asked for an adapter yet."
    )
    if answer["too_young"]:
        parts.append(f"Warning: that is less than {unused_for:g} days ago. What is listed may have been used before.")
    return Group(*parts)


def _adapters(answer: dict[str, Any]) -> Table:
    table = Table("adapter", "last asked", title="Adapters, those that were not asked for the longest first")
    for heading in ("requests", "an hour", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("tier")
    table.add_column("pinned")
    for adapter in answer["data"]:
        table.add_row(
            adapter["id"],
            adapter["last_asked"] or "never",
            f"{adapter['requests']:,}",
            f"{3600 * adapter['rate']:,.1f}",
            f"{adapter['bytes']:,}",
            adapter["tier"],
            "yes" if adapter["pinned"] else "",
        )
    return table


def _curve(cache: dict[str, Any]) -> Table:
    table = Table(title=f"Hit ratio by device budget, over {cache['lookups']:,} lookups of about the last hour")
    table.add_column("budget", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("hit ratio", justify="right")
    table.add_column("", width=_BAR)
    for budget, ratio in cache["hit_ratios"].items():
        size = round(float(budget.rstrip("x")) * cache["budget_bytes"])
        bar = ProgressBar(total=1.0, completed=ratio, width=_BAR)
        table.add_row(budget, f"{size:,}", f"{ratio:.3f}", bar)
    return table
