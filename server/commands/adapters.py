"""`switchyard adapters`: publish versions, move aliases, retire, restore and note; upkeep has a file of its own."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters_store import parse_adapter_name
from adapters_store.names import LATEST
from adapters_store.version_notes import VersionNotes, sorted_tags
from server.commands.adapter_arguments import adapter_source, exact_version, promoted_version, published_name
from server.commands.adapter_options import (
    DEFAULT_STORE,
    PROD,
    ExactRef,
    Expect,
    Json,
    Key,
    Name,
    Ref,
    Store,
    Url,
    catalog,
)
from server.commands.adapter_tables import alias_table, history_table, moved, version_table
from server.commands.failure import CommandFailed
from server.commands.output import Output
from server.commands.residency import pin, unpin, usage
from server.commands.store_upkeep import gc, verify

app = typer.Typer(
    help="Publish adapters and move their aliases, on a server (--url) or in a store on this machine (--store).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(verify)
app.command()(gc)
app.command()(usage)
app.command()(pin)
app.command()(unpin)

Description = Annotated[str | None, typer.Option(help="What the version is, in a sentence or a few.")]
SourceJob = Annotated[str | None, typer.Option(help="The training job that it comes from.")]
Parents = Annotated[
    list[str] | None, typer.Option("--parent", metavar="DIGEST", help="A version that it was made from; repeatable.")
]
Evaluation = Annotated[
    str | None, typer.Option(metavar="JSON", help="Results by name: a JSON object, or @FILE with one.")
]


@app.command()
def push(
    context: typer.Context,
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            help="The directory that PEFT's save_pretrained wrote, or hub:OWNER/NAME@REVISION on a model hub."
        ),
    ],
    alias: Annotated[str, typer.Option(help="The alias to move to the new version.")] = LATEST,
    expect: Expect = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for the version: WORD or KEY=WORD; repeatable.")] = None,
    description: Description = None,
    source_job: SourceJob = None,
    parent: Parents = None,
    evaluation: Evaluation = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Publish an adapter as a new version. The same content again gives the same digest.

    \b
    Examples:
      switchyard adapters push acme/support ./checkpoint --store adapters
      switchyard adapters push acme/support hub:acme/support-lora@v1 --store adapters
      switchyard adapters push acme/support ./checkpoint --alias canary --tag lang=de --url http://127.0.0.1:8000
    """
    output = Output(as_json=as_json)
    published, found = published_name(name), adapter_source(source)
    notes = _notes(tag, description, source_job, parent, evaluation)
    target = catalog(context, url, store, api_key, output, create=True)
    answer = target.push(published, found, alias, expect=expect, notes=notes)
    for warning in answer["warnings"]:
        output.warning(warning)
    output.result(answer, moved(answer))


@app.command("list")
def list_adapters(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many adapters; all, unless given.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only adapters whose names follow this one.")
    ] = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Every adapter with its aliases, a row for each.

    \b
    Examples:
      switchyard adapters list --store adapters
      switchyard adapters list --limit 100 --after acme/support --json --url http://127.0.0.1:8000
    """
    output = Output(as_json=as_json)
    start = None if after is None else parse_adapter_name(after)
    answer = catalog(context, url, store, api_key, output).list(limit, start)
    output.table(answer, lambda narrow: alias_table(answer["data"], narrow=narrow))


@app.command()
def show(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """One adapter with its versions, the newest last.

    \b
    Example:
      switchyard adapters show acme/support --json --store adapters
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).show(parse_adapter_name(name), history=False)
    output.table(answer, lambda _narrow: version_table(answer))


@app.command()
def history(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Where the aliases of an adapter have been, the newest move of each last.

    \b
    Example:
      switchyard adapters history acme/support --store adapters
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).show(parse_adapter_name(name), history=True)
    output.table(answer, lambda _narrow: history_table(answer))


@app.command()
def promote(
    context: typer.Context,
    ref: Ref,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = PROD,
    expect: Expect = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version: that of another alias (latest, unless named) or of a digest.

    \b
    Examples:
      switchyard adapters promote acme/support --store adapters
      switchyard adapters promote acme/support@canary --alias prod --url http://127.0.0.1:8000
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).promote(promoted_version(ref), alias, expect=expect)
    output.result(answer, moved(answer))


@app.command()
def rollback(
    context: typer.Context,
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = PROD,
    expect: Expect = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Point an alias back to where it was before its last move.

    \b
    Example:
      switchyard adapters rollback acme/support --alias prod --store adapters
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).rollback(parse_adapter_name(name), alias, expect=expect)
    output.result(answer, moved(answer))


@app.command()
def unalias(
    context: typer.Context,
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias to remove, with its history.")],
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Remove an alias. Its version stays.

    \b
    Example:
      switchyard adapters unalias acme/support canary --store adapters
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).unalias(parse_adapter_name(name), alias)
    output.result(answer, f"{answer['id']}@{answer['alias']} is removed, it was {answer['digest']}")


@app.command()
def retire(
    context: typer.Context,
    ref: ExactRef,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Let a version without an alias resolve no more. Its files stay until `gc` takes them.

    \b
    Example:
      switchyard adapters retire acme/support@sha256:9f86… --store adapters
    """
    output = Output(as_json=as_json)
    name, digest = exact_version(ref)
    answer = catalog(context, url, store, api_key, output).retire(name, digest)
    output.result(answer, f"{answer['id']}@{answer['digest']} is retired")


@app.command()
def restore(
    context: typer.Context,
    ref: ExactRef,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Let a retired version resolve again.

    \b
    Example:
      switchyard adapters restore acme/support@sha256:9f86… --store adapters
    """
    output = Output(as_json=as_json)
    name, digest = exact_version(ref)
    answer = catalog(context, url, store, api_key, output).restore(name, digest)
    output.result(answer, f"{answer['id']}@{answer['digest']} is live")


@app.command()
def tag(
    context: typer.Context,
    ref: Ref,
    add: Annotated[list[str] | None, typer.Option(metavar="TAG", help="WORD or KEY=WORD; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to take away; repeatable.")] = None,
    description: Description = None,
    source_job: SourceJob = None,
    parent: Parents = None,
    evaluation: Evaluation = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Note on a version what it is, where it comes from and how it did.

    \b
    Examples:
      switchyard adapters tag acme/support@canary --add reviewed --remove draft --store adapters
      switchyard adapters tag acme/support --evaluation '{"accuracy": 0.93}' --url http://127.0.0.1:8000
    """
    output = Output(as_json=as_json)
    notes = _notes(add, description, source_job, parent, evaluation)
    if notes == VersionNotes() and not remove:
        raise CommandFailed(
            "nothing to note: give --add, --remove, --description, --evaluation, --source-job or --parent"
        )
    answer = catalog(context, url, store, api_key, output).annotate(promoted_version(ref), notes, remove or [])
    tags = ", ".join(answer["notes"].get("tags", ())) or "none"
    output.result(answer, f"{answer['id']}@{answer['digest']} is noted, tags: {tags}")


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Remove an adapter with all its aliases. Requests that run on it end undisturbed.

    \b
    Example:
      switchyard adapters delete acme/support --store adapters
    """
    output = Output(as_json=as_json)
    answer = catalog(context, url, store, api_key, output).delete(parse_adapter_name(name))
    for warning in answer["warnings"]:
        output.warning(warning)
    output.result(answer, f"{answer['id']} is deleted")


def _notes(
    tags: list[str] | None,
    description: str | None,
    source_job: str | None,
    parents: list[str] | None,
    evaluation: str | None,
) -> VersionNotes:
    return VersionNotes(
        tags=tuple(sorted_tags(tags or [])),
        description=description,
        source_job=source_job,
        parents=tuple(parents or ()),
        evaluation=_results(evaluation),
    )


def _results(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        results = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"--evaluation is no JSON object: {error}") from None
    if not isinstance(results, dict) or not all(
        isinstance(value, bool | int | float | str) for value in results.values()
    ):
        raise CommandFailed("--evaluation must be a JSON object of numbers, words and true or false")
    return results
