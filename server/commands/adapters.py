"""`switchyard adapters`: push, list, show, promote, rollback, delete."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from adapters_store import AdapterStore, parse_adapter_name
from adapters_store.names import LATEST
from server.commands.adapter_arguments import promoted_version, published_name, server_url
from server.commands.catalogs import Catalog, LocalCatalog
from server.commands.failure import CommandFailed
from server.commands.output import Output

app = typer.Typer(
    help="Publish adapters and move their aliases, on a server (--url) or in a store on this machine (--store).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PROD = "prod"
_MILLISECONDS = re.compile(r"\.[0-9]+")
_SHORT_DIGEST = len("sha256:") + 12

Name = Annotated[str, typer.Argument(help="The adapter: NAME or TENANT/NAME.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        callback=server_url,
        help="A server, as http://127.0.0.1:8000. Where it wants a key, set SWITCHYARD_API_KEY to the server's key.",
    ),
]
Store = Annotated[
    Path, typer.Option("--store", envvar="SWITCHYARD_STORE", help="The directory of a store on this machine.")
]
Key = Annotated[
    str | None,
    typer.Option(envvar="SWITCHYARD_API_KEY", hidden=True, help="The server's key; give it by the environment."),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]

DEFAULT_STORE = Path("adapters")


@app.command()
def push(
    context: typer.Context,
    name: Name,
    directory: Annotated[Path, typer.Argument(help="What PEFT's save_pretrained wrote.")],
    alias: Annotated[str, typer.Option(help="The alias to move to the new version.")] = LATEST,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Publish a PEFT directory as a new version. The same content again gives the same digest."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output, create=True).push(published_name(name), directory, alias)
    for warning in answer["warnings"]:
        output.warning(warning)
    output.result(answer, _moved(answer))


@app.command("list")
def list_adapters(
    context: typer.Context,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Every adapter with its aliases, a row for each."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output).list()
    output.table(answer, lambda narrow: _alias_table(answer["data"], narrow=narrow))


@app.command()
def show(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """One adapter with its versions, the newest last."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output).show(parse_adapter_name(name))
    output.table(answer, lambda _narrow: _version_table(answer))


@app.command()
def promote(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="NAME[@ALIAS|@sha256:DIGEST]", help="The version to point at.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = _PROD,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version: that of another alias (latest, unless named) or of a digest."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output).promote(promoted_version(ref), alias)
    output.result(answer, _moved(answer))


@app.command()
def rollback(
    context: typer.Context,
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = _PROD,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Point an alias back to where it was before its last move."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output).rollback(parse_adapter_name(name), alias)
    output.result(answer, _moved(answer))


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Remove an adapter with all its aliases. Requests that run on it end undisturbed."""
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key, output).delete(parse_adapter_name(name))
    output.result(answer, f"{answer['id']} is deleted")


def _catalog(
    context: typer.Context, url: str | None, store: Path, key: str | None, output: Output, *, create: bool = False
) -> Catalog:
    """The server at `url`, or else the store; only a push creates one."""
    if url is not None:
        source = context.get_parameter_source("store")
        if source is not None and source.name == "COMMANDLINE":
            raise CommandFailed("give --url or --store, not both")
        from server.commands.remote_catalog import RemoteCatalog

        return RemoteCatalog(url, key, output.stderr)
    if not create and not store.is_dir():
        raise CommandFailed(f"there is no store at {store}: name one with --store, or a server with --url")
    try:
        return LocalCatalog(AdapterStore(store))
    except OSError as error:
        raise CommandFailed(f"cannot open the store {store}: {error.strerror or error}") from error


def _alias_table(adapters: list[dict[str, Any]], *, narrow: bool) -> Table:
    table = Table("adapter", "alias", "method", "rank", "published")
    table.add_column("digest", overflow="fold")
    for adapter in adapters:
        versions = {version["digest"]: version for version in adapter["versions"]}
        for alias, digest in adapter["aliases"].items():
            version = versions[digest]
            method, rank = version["metadata"]["method"], _ranks(version["metadata"])
            published = version["created"]
            if narrow:
                published, digest = _MILLISECONDS.sub("", published), f"{digest[:_SHORT_DIGEST]}…"
            table.add_row(adapter["id"], alias, method, rank, published, digest)
    return table


def _version_table(adapter: dict[str, Any]) -> Table:
    table = Table("aliases", "method", "rank", "dtype", "bytes", "published", title=adapter["id"])
    table.add_column("digest", overflow="fold")
    for version in adapter["versions"]:
        digest, metadata = version["digest"], version["metadata"]
        aliases = ", ".join(alias for alias, target in adapter["aliases"].items() if target == digest)
        size = f"{metadata['tensor_bytes']:,}"
        row = (aliases, metadata["method"], _ranks(metadata), metadata["dtype"], size, version["created"], digest)
        table.add_row(*row)
    return table


def _ranks(metadata: dict[str, Any]) -> str:
    low, high = metadata["rank_min"], metadata["rank_max"]
    return str(low) if low == high else f"{low}-{high}"


def _moved(answer: dict[str, Any]) -> str:
    if answer["previous"] == answer["digest"]:
        return f"{answer['id']}@{answer['alias']} is already {answer['digest']}"
    before = f", before {answer['previous']}" if answer["previous"] else ""
    return f"{answer['id']}@{answer['alias']} is now {answer['digest']}{before}"
