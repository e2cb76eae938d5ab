"""`switchyard adapters verify` and `gc`, and the examples in the help of every command."""

import errno
import re
from collections.abc import Callable

import pytest

from adapters_store.names import parse_adapter_name
from tests.adapters_store.hand_made import BASE
from tests.api.harness import Bench
from tests.commands.command_line import Finished

Run = Callable[..., Finished]
COMMANDS = (
    *("push", "list", "show", "history", "promote", "rollback", "unalias", "retire", "restore", "tag", "delete"),
    *("verify", "gc"),
)


@pytest.fixture
def store(bench: Bench) -> list[str]:
    """The option that leads to a store with two versions of an adapter."""
    bench.store.describe_base(BASE)
    bench.publish("support", seed=1)
    bench.publish("support", seed=2)
    return ["--store", str(bench.store.root)]


def test_a_whole_store_is_said_to_be_whole(store: list[str], run: Run) -> None:
    for people in (run("adapters", "verify", *store), run("adapters", "verify", "--repair", *store)):
        assert (people.status, people.stderr) == (0, "")
        assert re.fullmatch(r"2 versions of 1 adapters, [0-9,]+ bytes: whole\n", people.stdout)
    program = run("adapters", "verify", *store, "--json")
    assert (program.json["whole"], program.json["versions"], program.json["findings"]) == (True, 2, [])
    assert program.stderr == ""


def test_damage_is_status_1_until_it_is_mended(bench: Bench, store: list[str], run: Run) -> None:
    (bench.store.root / "names" / "stray.txt").write_text("x")
    found = run("adapters", "verify", *store)
    assert found.status == 1
    assert "foreign" in found.stdout
    assert "not whole" in found.stdout
    mended = run("adapters", "verify", "--repair", *store, "--json")
    assert (mended.status, mended.json["whole"]) == (0, True)
    (repair,) = mended.json["repairs"]
    assert repair["action"].startswith("moved to quarantine/")
    assert run("adapters", "verify", *store).status == 0


def test_damage_that_cannot_be_mended_stays_status_1(bench: Bench, store: list[str], run: Run) -> None:
    version = bench.store.get(parse_adapter_name("support")).versions[0]
    (version.directory / "adapter_config.json").unlink()
    finished = run("adapters", "verify", "--repair", *store, "--json")
    assert (finished.status, finished.json["whole"]) == (1, False)
    assert finished.json["repairs"][0]["action"] is None


def test_a_collection_is_dry_unless_told(bench: Bench, store: list[str], run: Run) -> None:
    old = bench.store.get(parse_adapter_name("support")).versions[0]
    dry = run("adapters", "gc", "--grace", "0s", "--keep", "0", *store, "--json")
    assert (dry.status, dry.json["dry_run"], dry.json["removed"]) == (0, True, [old.digest])
    assert old.directory.is_dir()
    said = run("adapters", "gc", "--grace", "0s", "--keep", "0", *store)
    assert old.digest in said.stdout
    assert "would be removed; --apply does it" in said.stdout
    done = run("adapters", "gc", "--grace", "0s", "--keep", "0", "--apply", *store, "--json")
    assert (done.json["dry_run"], done.json["versions"]) == (False, [{"id": "support", "digest": old.digest}])
    assert not old.directory.exists()


def test_a_collection_keeps_what_is_young_or_in_reach(store: list[str], run: Run) -> None:
    for rules in ([], ["--grace", "0s"], ["--keep", "0"]):
        assert run("adapters", "gc", *rules, *store, "--json").json["removed"] == []


@pytest.mark.parametrize("grace", ["7", "d", "-1d", "1 d", "1w"])
def test_a_grace_that_is_no_duration_is_refused(store: list[str], run: Run, grace: str) -> None:
    finished = run("adapters", "gc", f"--grace={grace}", *store)
    assert finished.status == 1
    assert "write a number and s, m, h or d, as 7d" in finished.stderr


@pytest.mark.parametrize("command", ["verify", "gc"])
def test_upkeep_makes_no_store(bench: Bench, run: Run, command: str) -> None:
    finished = run("adapters", command, "--store", bench.scratch / "nowhere")
    assert finished.status == 1
    assert "there is no store at" in finished.stderr
    assert not (bench.scratch / "nowhere").exists()


@pytest.mark.parametrize("command", ["verify", "gc", "list"])
def test_a_directory_that_is_no_store_is_left_alone(bench: Bench, run: Run, command: str) -> None:
    other = bench.scratch / "documents"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    finished = run("adapters", command, "--store", other)
    assert finished.status == 1
    assert "is a directory, and no store" in finished.stderr
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_what_no_name_has_is_shown_before_it_is_removed(bench: Bench, store: list[str], run: Run) -> None:
    (old, new) = bench.store.get(parse_adapter_name("support")).versions
    bench.store.delete(parse_adapter_name("support"))
    said = run("adapters", "gc", "--grace", "0s", *store)
    assert old.digest in said.stdout
    assert new.digest in said.stdout
    assert "0 kept by a lease or a task" in said.stdout


def test_a_disk_that_refuses_is_one_line(store: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "names/x.json")

    monkeypatch.setattr("server.commands.store_upkeep.collect", refuse)
    finished = run("adapters", "gc", *store)
    assert (finished.status, finished.stderr) == (1, "error: Permission denied: names/x.json\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_an_example_on_a_line_of_its_own(run: Run, command: str) -> None:
    helped = run("adapters", command, "--help").stdout
    assert re.search(rf"^ +switchyard adapters {command}( |$)", helped, re.MULTILINE)
    assert "--json" in helped
