"""`switchyard tasks`: set, list, show, rollback, delete."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from server.commands.adapter_options import DEFAULT_STORE, Json, Key, Store, Url, local_store
from server.commands.failure import CommandFailed
from server.commands.output import Output
from server.commands.task_arguments import RuleFlags, rule_from, task_name
from server.commands.task_catalogs import LocalTasks, TaskCatalog

_HELP = """Say which adapters answer for a task, on a server (--url) or in a store on this machine (--store).

Clients ask for model "task:NAME". A change takes effect at the next request, and rollback undoes it.

\b
Examples:
  switchyard tasks set summarise --adapter summary@prod
  switchyard tasks set summarise --adapter summary@prod --canary summary@next=10% --sticky user
  switchyard tasks show summarise
  switchyard tasks rollback summarise
"""

_SET_HELP = """Put a rule in force for a task: by flags, or a whole rule as JSON in a file.

\b
Examples:
  switchyard tasks set summarise --adapter summary@prod --fallback base
  switchyard tasks set summarise --adapter summary@prod --canary summary@next=10% --sticky user
  switchyard tasks set summarise --adapter summary@prod --shadow summary@next=0.1
  switchyard tasks set summarise --tier summary@r64 --tier summary@r8
  switchyard tasks set summarise --file rule.json --expect 3
  echo '{"arms": [{"adapter": "summary@prod"}]}' | switchyard tasks set summarise --file -
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The task; clients ask for model task:NAME.")]
Expect = Annotated[
    int | None, typer.Option(min=0, help="The revision that must be in force, 0 for none; else nothing is changed.")
]


@app.command("set", help=_SET_HELP)
def set_task(
    context: typer.Context,
    name: Name,
    adapter: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The adapter that answers, as NAME[@ALIAS].")
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Instead of --adapter, one of several sizes of it, the preferred first; repeatable."
        ),
    ] = None,
    canary: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="An adapter that gets a share; repeatable.")
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What answers when none of those can, in order; repeatable."),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=SHARE]", help="An adapter that gets copies, seen by nobody; repeatable."),
    ] = None,
    sticky: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="The request field that keeps its arm: user, prompt_cache_key, safety_identifier."
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(help="A note for people.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="The whole rule as JSON, instead of flags; - reads it from stdin.")
    ] = None,
    allow_unpublished: Annotated[
        bool,
        typer.Option("--allow-unpublished", help="Take adapters that are not there yet; they are skipped till then."),
    ] = False,
    expect: Expect = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    if len(adapter or ()) > 1:
        raise CommandFailed("--adapter is given more than once: name one, and others as --canary, --tier or --fallback")
    only = adapter[0] if adapter else None
    flags = RuleFlags(
        only, tuple(tier or ()), tuple(canary or ()), tuple(fallback or ()), tuple(shadow or ()), sticky, description
    )
    rule = rule_from(file, flags)
    output = Output(as_json=as_json)
    answer = _catalog(context, url, store, api_key).set(
        task_name(name), rule, expect=expect, allow_unpublished=allow_unpublished
    )
    _changed(output, answer)


@app.command("list")
def list_tasks(
    context: typer.Context,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Every task with the rule in force, a row for each."""
    answer = _catalog(context, url, store, api_key).list()
    Output(as_json=as_json).table(answer, lambda _narrow: _task_table(answer["data"]))


@app.command()
def show(
    context: typer.Context,
    name: Name,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """One task with its last revisions, the one in force last."""
    answer = _catalog(context, url, store, api_key).show(task_name(name))
    Output(as_json=as_json).table(answer, lambda _narrow: _revision_table(answer))


@app.command()
def rollback(
    context: typer.Context,
    name: Name,
    to: Annotated[int | None, typer.Option(min=1, help="The revision to restore; the one before by default.")] = None,
    expect: Expect = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Put the rule before the last change in force again; once more, the one before that."""
    answer = _catalog(context, url, store, api_key).rollback(task_name(name), to=to, expect=expect)
    _changed(Output(as_json=as_json), answer)


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    expect: Expect = None,
    url: Url = None,
    store: Store = DEFAULT_STORE,
    api_key: Key = None,
    as_json: Json = False,
) -> None:
    """Remove a task with its history. Its adapters stay."""
    answer = _catalog(context, url, store, api_key).delete(task_name(name), expect=expect)
    Output(as_json=as_json).result(answer, f"task {answer['id']} is deleted")


def _catalog(context: typer.Context, url: str | None, store: Path, key: str | None) -> TaskCatalog:
    """The server at `url`, or else the store."""
    if url is not None:
        source = context.get_parameter_source("store")
        if source is not None and source.name == "COMMANDLINE":
            raise CommandFailed("give --url or --store, not both")
        from server.commands.remote_tasks import RemoteTasks
        from server.commands.server_connection import ServerConnection

        return RemoteTasks(ServerConnection(url, key))
    return LocalTasks(local_store(store))


def _changed(output: Output, answer: dict[str, Any]) -> None:
    for warning in answer["warnings"]:
        output.warning(warning)
    output.result(answer, f"task {answer['id']} is at revision {answer['revision']}: {_arms(answer['rule'])}")


def _task_table(tasks: list[dict[str, Any]]) -> Table:
    table = Table("task", "revision", "arms", "fallback", "shadow", "also", "changed")
    for task in tasks:
        table.add_row(task["id"], str(task["revision"]), *_columns(task["rule"]), task["revisions"][-1]["changed"])
    return table


def _revision_table(task: dict[str, Any]) -> Table:
    table = Table("revision", "arms", "fallback", "shadow", "also", "restores", "changed", title=f"task:{task['id']}")
    for revision in task["revisions"]:
        restores = "" if revision["restores"] is None else str(revision["restores"])
        table.add_row(str(revision["number"]), *_columns(revision["rule"]), restores, revision["changed"])
    return table


def _columns(rule: dict[str, Any]) -> tuple[str, str, str, str]:
    shadows = (f"{shadow['adapter']} {shadow['sample']:.4g}" for shadow in rule.get("shadow", ()))
    return _arms(rule), ", ".join(rule.get("fallback", ())), ", ".join(shadows), _rest(rule)


def _rest(rule: dict[str, Any]) -> str:
    """What else a rule says, in the words of its fields."""
    said = [f"{field} {_flat(rule[field])}" for field in ("sticky", "pressure") if rule.get(field)]
    return "; ".join(said + ([rule["description"]] if rule.get("description") else []))


def _flat(value: Any) -> str:
    return ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)


def _arms(rule: dict[str, Any]) -> str:
    """Each arm with its share of the requests."""
    weights = [arm.get("weight", 1.0) for arm in rule["arms"]]
    arms = []
    for arm, weight in zip(rule["arms"], weights, strict=True):
        name = arm.get("adapter") or " > ".join(tier["adapter"] for tier in arm["tiers"])
        arms.append(f"{name} {100 * weight / sum(weights):.4g} %")
    return ", ".join(arms)
