"""`switchyard tasks`: the same commands on a store and on a server, for people and for programs."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from tests.api.harness import Bench, live
from tests.api.scripted_engine import saying
from tests.commands.command_line import Finished

pytestmark = pytest.mark.anyio

Run = Callable[..., Finished]
KEY = "a key"


@pytest.fixture(params=["store", "server"])
async def where(
    bench: Bench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[str]]:
    """The options that lead to one and the same store: directly, or through a server that wants a key."""
    for seed, alias in enumerate(("prod", "next", "r8")):
        bench.publish("summary", seed, alias)
    if request.param == "store":
        yield ["--store", str(bench.store.root)]
        return
    monkeypatch.setenv("SWITCHYARD_API_KEY", KEY)
    async with live(bench, bench.engine(saying([])), api_key=KEY) as url:
        yield ["--url", url]


async def test_a_life_of_a_task(bench: Bench, where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "tasks", *arguments, *where, "--json")

    first = await command("set", "summarise", "--adapter", "summary@prod")
    assert (first.status, first.json["revision"]) == (0, 1)
    canary = await command("set", "summarise", "--adapter", "summary@prod", "--canary", "summary@next=10%")
    assert canary.json["rule"]["arms"] == [
        {"adapter": "summary@prod", "weight": 90.0},
        {"adapter": "summary@next", "weight": 10.0},
    ]
    shown = (await command("show", "task:summarise")).json
    assert [revision["number"] for revision in shown["revisions"]] == [1, 2]
    assert (await command("list")).json["data"] == [shown]
    back = (await command("rollback", "summarise", "--expect", 2)).json
    assert back["rule"]["arms"] == [{"adapter": "summary@prod", "weight": 100.0}]
    assert (await command("rollback", "summarise", "--to", 2)).json["revision"] == 4
    assert (await command("delete", "summarise")).json["deleted"] is True
    assert TaskDirectory.of_store(bench.store.root).list() == []


async def test_people_get_sentences_and_tables(where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "tasks", *arguments, *where)

    rule = ["--adapter", "summary@prod", "--canary", "summary@next=0.1", "--fallback", "base", "--shadow", "summary@r8"]
    said = await command("set", "summarise", *rule)
    assert said.stdout == "task summarise is at revision 1: summary@prod 90 %, summary@next 10 %\n"
    listed = (await command("list")).stdout
    assert all(word in listed for word in ("summarise", "summary@next 10 %", "base", "summary@r8 1"))
    await command("set", "summarise", "--tier", "summary@prod", "--tier", "summary@r8")
    shown = (await command("show", "summarise")).stdout
    assert "summary@prod > summary@r8 100 %" in shown
    assert (await command("rollback", "summarise")).stdout.startswith(
        "task summarise is at revision 3: summary@prod 90"
    )
    described = ["--adapter", "summary@prod", "--sticky", "user", "--description", "for the help desk"]
    await command("set", "summarise", *described)
    listed = (await command("list")).stdout
    assert all(word in listed for word in ("sticky user", "for the help desk"))
    assert (await command("delete", "summarise")).stdout == "task summarise is deleted\n"


async def test_deleting_an_adapter_names_the_tasks_that_lose_it(where: list[str], run: Run) -> None:
    await asyncio.to_thread(run, "tasks", "set", "summarise", "--adapter", "summary@prod", *where)
    deleted = await asyncio.to_thread(run, "adapters", "delete", "summary", *where)
    assert deleted.stdout == "summary is deleted\n"
    assert "task:summarise names summary" in deleted.stderr


async def test_a_whole_rule_comes_from_a_file_or_from_stdin(
    bench: Bench, where: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"arms": [{"adapter": "summary@prod", "weight": 1.0}], "sticky": "user"}
    file = bench.scratch / "rule.json"
    file.write_text(json.dumps(rule))
    from_file = await asyncio.to_thread(run, "tasks", "set", "t", "--file", file, *where, "--json")
    assert from_file.json["rule"]["sticky"] == "user"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(rule).encode())))
    from_stdin = await asyncio.to_thread(run, "tasks", "set", "t", "--file", "-", *where, "--json")
    assert (from_stdin.json["rule"], from_stdin.json["revision"]) == (from_file.json["rule"], 1)


async def test_an_adapter_to_come_is_a_warning(where: list[str], run: Run) -> None:
    set_it = ["tasks", "set", "t", "--adapter", "summary@prod", "--canary", "later=5%", *where]
    refused = await asyncio.to_thread(run, *set_it)
    assert (refused.status, refused.stdout) == (1, "")
    assert "arms[1].adapter: there is no adapter 'later'" in refused.stderr
    taken = await asyncio.to_thread(run, *set_it, "--allow-unpublished")
    assert taken.status == 0
    assert "warning: arms[1].adapter: there is no adapter 'later'" in taken.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "nothing"], "there is no task 'nothing'"),
        (["delete", "nothing"], "there is no task 'nothing'"),
        (["rollback", "nothing"], "there is no task 'nothing'"),
        (["rollback", "known"], "no earlier rule"),
        (["set", "known", "--adapter", "summary@next", "--expect", "7"], "is at revision 1, and not at revision 7"),
        (["show", "../etc"], "is no task's name"),
        (["set", "t"], "give --adapter"),
        (["set", "t", "--adapter", "summary", "--tier", "summary"], "and not two of them"),
        (["set", "t", "--adapter", "summary", "--adapter", "base"], "--adapter is given more than once"),
        (["set", "t", "--adapter", "summary", "--canary", "summary@next"], "write it as NAME=10%"),
        (["set", "t", "--adapter", "summary", "--canary", "summary@next=101%"], "write it as NAME=10%"),
        (["set", "t", "--adapter", "summary", "--canary", "a=60%", "--canary", "b=0.6"], "more than 100 %"),
        (["set", "t", "--adapter", "summary", "--shadow", "summary@next=x"], "write it as NAME=10%"),
        (["set", "t", "--adapter", "summary", "--sticky", "session"], "sticky"),
        (["set", "t", "--adapter", "summary", "--file", "rule.json"], "either in --file or in flags"),
        (["set", "t", "--file", "missing.json"], "cannot read missing.json"),
        (["set", "t", "--file", "torn.json"], "torn.json is not JSON"),
        (["set", "t", "--file", "wrong.json"], "arms: has 0 entries"),
    ],
)
async def test_a_failure_is_one_line_and_status_1(
    bench: Bench, where: list[str], run: Run, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.scratch)
    Path("torn.json").write_text("{")
    Path("wrong.json").write_text('{"arms": []}')
    await asyncio.to_thread(run, "tasks", "set", "known", "--adapter", "summary@prod", *where)
    finished = await asyncio.to_thread(run, "tasks", *arguments, *where)
    assert (finished.status, finished.stdout) == (1, "")
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert says in finished.stderr
    assert [task.name for task in TaskDirectory.of_store(bench.store.root).list()] == ["known"]


def test_no_store_is_created_by_a_task(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.scratch)
    nowhere = run("tasks", "list")
    assert (nowhere.status, nowhere.stdout) == (1, "")
    assert "no store at adapters" in nowhere.stderr
    assert not Path("adapters").exists()
    both = run("tasks", "list", "--url", "http://127.0.0.1:1", "--store", bench.store.root)
    assert (both.status, "not both" in both.stderr) == (1, True)


def test_a_task_set_here_is_seen_by_a_reader_elsewhere(bench: Bench, run: Run) -> None:
    bench.publish("summary")
    elsewhere = TaskDirectory.of_store(bench.store.root)
    assert run("tasks", "set", "t", "--adapter", "summary", "--store", bench.store.root).status == 0
    assert elsewhere.get(TaskName("t")).current.number == 1
