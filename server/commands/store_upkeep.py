"""`switchyard adapters verify` and `gc`: looking after a store on this machine. A server has no such endpoints."""

import re
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from adapters_store.collection import Collection, CollectionRules, collect
from adapters_store.repair import Repair
from adapters_store.repair import repair as mend
from adapters_store.store import AdapterStore
from adapters_store.verification import Verification
from adapters_store.verification import verify as check
from server.commands.adapter_options import DEFAULT_STORE, Json, Store, local_store
from server.commands.failure import CommandFailed
from server.commands.output import Output

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def verify(
    store: Store = DEFAULT_STORE,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what can be mended; what is foreign or damaged moves to `quarantine/`."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Hash every version and read every document of a store on this machine. Ends with 1 while something is at fault.

    Servers may go on meanwhile. Kinds of findings: damaged, missing, foreign and record are faults; left-over and
    unreferenced are not.

    \b
    Examples:
      switchyard adapters verify --store adapters
      switchyard adapters verify --repair --json --store adapters
    """
    output = Output(as_json=as_json)
    opened = local_store(store)
    found = _checked(opened, output)
    repairs: tuple[Repair, ...] = ()
    if repair and found.findings:
        repairs = mend(opened, found.findings)
        found = _checked(opened, output)
    answer = _verification_answer(found, repairs)
    for done in repairs:
        if done.action is not None and not as_json:
            output.stderr.print(f"{done.finding.path}: {done.action}", markup=False, soft_wrap=True)
    if found.findings or as_json:
        output.table(answer, lambda _narrow: _finding_table(answer))
    if not as_json:
        state = "whole" if found.is_whole else "not whole"
        output.result(answer, f"{found.versions} versions of {found.names} adapters, {found.bytes:,} bytes: {state}")
    if not found.is_whole:
        raise typer.Exit(1)


def gc(
    store: Store = DEFAULT_STORE,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Otherwise only what would be done is said.")] = False,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long a version must have been without a use: 7d, 12h, 30m, 0s.")
    ] = "7d",
    keep: Annotated[
        int, typer.Option(min=0, help="Earlier versions to keep of every alias, so that it can be rolled back.")
    ] = 5,
    as_json: Json = False,
) -> None:
    """Remove versions of a store on this machine that no alias and no server uses. A dry run, unless --apply is given.

    Servers may go on meanwhile: each holds a lease on the versions that it uses.

    \b
    Examples:
      switchyard adapters gc --store adapters
      switchyard adapters gc --apply --grace 30d --keep 10 --store adapters
    """
    output = Output(as_json=as_json)
    rules = CollectionRules(grace=_duration(grace), depth=keep)
    done = collect(local_store(store), rules, dry=not apply)
    answer = _collection_answer(done)
    if done.versions or done.removed or as_json:
        output.table(answer, lambda _narrow: _collection_table(answer))
    if not as_json:
        said = "removed" if apply else "would be removed; --apply does it"
        output.result(
            answer,
            f"{len(done.removed)} versions, {done.bytes:,} bytes {said}; {done.leased} kept by a lease or a task",
        )


def _checked(store: AdapterStore, output: Output) -> Verification:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = output.as_json or not output.stderr.is_terminal
    with Progress(*columns, console=output.stderr, transient=True, disable=hidden) as progress:
        task = progress.add_task("hash versions", total=None)
        return check(store, progress=lambda done, total: progress.update(task, completed=done, total=total))


def _verification_answer(found: Verification, repairs: tuple[Repair, ...]) -> dict[str, Any]:
    return {
        "object": "store.verification",
        "whole": found.is_whole,
        "names": found.names,
        "versions": found.versions,
        "bytes": found.bytes,
        "findings": [
            {"kind": finding.kind, "fault": finding.is_fault, "path": str(finding.path), "reason": finding.reason}
            for finding in found.findings
        ],
        "repairs": [
            {"kind": repair.finding.kind, "path": str(repair.finding.path), "action": repair.action}
            for repair in repairs
        ],
    }


def _finding_table(answer: dict[str, Any]) -> Table:
    table = Table("kind", "fault")
    table.add_column("path", overflow="fold")
    table.add_column("reason", overflow="fold")
    for finding in answer["findings"]:
        table.add_row(finding["kind"], "yes" if finding["fault"] else "no", finding["path"], finding["reason"])
    return table


def _collection_answer(done: Collection) -> dict[str, Any]:
    return {
        "object": "store.collection",
        "dry_run": done.dry,
        "versions": [{"id": str(one.name), "digest": one.digest} for one in done.versions],
        "removed": list(done.removed),
        "bytes": done.bytes,
        "leased": done.leased,
    }


def _collection_table(answer: dict[str, Any]) -> Table:
    table = Table("adapter")
    table.add_column("digest", overflow="fold")
    for version in answer["versions"]:
        table.add_row(version["id"], version["digest"])
    of_names = {version["digest"] for version in answer["versions"]}
    for digest in answer["removed"]:
        if digest not in of_names:
            table.add_row("(none has it)", digest)
    return table


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CommandFailed(f"--grace {text!r} is no duration: write a number and s, m, h or d, as 7d")
    return float(found[1]) * _SECONDS[found[2]]
