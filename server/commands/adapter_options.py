"""Arguments and options that several `switchyard adapters` commands take."""

from pathlib import Path
from typing import Annotated

import typer

from adapters_store import AdapterStore
from adapters_store.store import is_store
from server.commands.adapter_arguments import server_url
from server.commands.catalogs import Catalog, LocalCatalog
from server.commands.failure import CommandFailed
from server.commands.output import Output

PROD = "prod"
DEFAULT_STORE = Path("adapters")

Name = Annotated[str, typer.Argument(help="The adapter: NAME or TENANT/NAME.")]
Ref = Annotated[str, typer.Argument(metavar="NAME[@ALIAS|@sha256:DIGEST]", help="The version; latest, unless named.")]
ExactRef = Annotated[str, typer.Argument(metavar="NAME@sha256:DIGEST", help="The version, by its digest.")]
Expect = Annotated[
    str | None,
    typer.Option(
        metavar="DIGEST", help="Fail unless the alias points there now; `none` where it must not be there yet."
    ),
]
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


def catalog(
    context: typer.Context, url: str | None, store: Path, key: str | None, output: Output, *, create: bool = False
) -> Catalog:
    """The server at `url`, or else the store; only a push creates one.

    Raises:
        CommandFailed: both are given, or there is no such store.
    """
    if url is not None:
        source = context.get_parameter_source("store")
        if source is not None and source.name == "COMMANDLINE":
            raise CommandFailed("give --url or --store, not both")
        from server.commands.remote_catalog import RemoteCatalog

        return RemoteCatalog(url, key, output.stderr)
    return LocalCatalog(local_store(store, create=create))


def local_store(store: Path, *, create: bool = False) -> AdapterStore:
    """The store in a directory of this machine.

    Raises:
        CommandFailed: there is none, or it cannot be opened.
    """
    if not create and not store.is_dir():
        raise CommandFailed(f"there is no store at {store}: name one with --store, or a server with --url")
    try:
        if not create and not is_store(store) and any(store.iterdir()):
            raise CommandFailed(
                f"{store} is a directory, and no store: it has no `names` and `versions`; name one with --store, or a "
                "server with --url"
            )
        return AdapterStore(store)
    except OSError as error:
        raise CommandFailed(f"cannot open the store {store}: {error.strerror or error}") from error
