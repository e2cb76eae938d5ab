"""Task routes on disk: changed whole, under a lock, by any process; damage is named and hides nothing else."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapters_store.errors import CorruptTask, StoreBusy, StoreFull, TaskConflict, UnknownTask
from adapters_store.file_lock import exclusive_lock
from adapters_store.file_operations import FileOperations
from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_document import KEPT_REVISIONS
from adapters_store.task_rule import Arm, TaskRule

ROOT = Path(__file__).parents[2]
SUMMARISE = TaskName("summarise")
TRANSLATE = TaskName("translate")

CHANGE_IT = """
import sys
from pathlib import Path
from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import parse_rule
tasks = TaskDirectory.of_store(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    tasks.set(TaskName("summarise"), parse_rule({"arms": [{"adapter": f"{sys.argv[2]}{number}"}]}))
"""


def rule(adapter: str) -> TaskRule:
    return TaskRule(arms=(Arm(adapter=adapter),))


@pytest.fixture
def tasks(tmp_path: Path) -> TaskDirectory:
    return TaskDirectory.of_store(tmp_path)


def file_of(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "tasks").glob("*.json")
    return path


def test_a_task_is_kept(tasks: TaskDirectory, tmp_path: Path) -> None:
    tasks.set(SUMMARISE, rule("a"))
    tasks.set(TRANSLATE, rule("b"))
    again = TaskDirectory.of_store(tmp_path)
    assert again.get(SUMMARISE).rule == rule("a")
    assert [document.name for document in again.list()] == ["summarise", "translate"]


def test_reading_creates_nothing(tasks: TaskDirectory, tmp_path: Path) -> None:
    assert tasks.list() == []
    with pytest.raises(UnknownTask):
        tasks.get(SUMMARISE)
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_is_not_there_leaves_no_lock(tasks: TaskDirectory, tmp_path: Path) -> None:
    for change in (tasks.rollback, tasks.delete):
        with pytest.raises(UnknownTask):
            change(SUMMARISE)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_task_suggests_what_was_meant(tasks: TaskDirectory) -> None:
    tasks.set(SUMMARISE, rule("a"))
    with pytest.raises(UnknownTask, match="did you mean 'summarise'"):
        tasks.get(TaskName("summarize"))


def test_the_rule_in_force_is_not_recorded_again(tasks: TaskDirectory) -> None:
    first = tasks.set(SUMMARISE, rule("a"))
    again = tasks.set(SUMMARISE, rule("a"))
    assert (first.created, again.created) == (True, False)
    assert again.before == again.after == first.after == tasks.get(SUMMARISE)


def test_a_rollback_restores_and_is_recorded(tasks: TaskDirectory) -> None:
    tasks.set(SUMMARISE, rule("a"))
    tasks.set(SUMMARISE, rule("b"))
    assert tasks.rollback(SUMMARISE).rule == rule("a")
    assert tasks.get(SUMMARISE).current.number == 3
    assert tasks.rollback(SUMMARISE, to=2).rule == rule("b")
    with pytest.raises(UnknownTask):
        tasks.rollback(TRANSLATE)


def test_a_deleted_task_is_gone(tasks: TaskDirectory) -> None:
    tasks.set(SUMMARISE, rule("a"))
    assert tasks.delete(SUMMARISE).name == "summarise"
    with pytest.raises(UnknownTask):
        tasks.get(SUMMARISE)
    with pytest.raises(UnknownTask):
        tasks.delete(SUMMARISE)
    assert tasks.set(SUMMARISE, rule("b")).after.current.number == 1


def test_of_two_changes_from_one_revision_the_second_is_told(tasks: TaskDirectory) -> None:
    tasks.set(SUMMARISE, rule("a"), expect=0)
    tasks.set(SUMMARISE, rule("b"), expect=1)
    for late in (
        lambda: tasks.set(SUMMARISE, rule("c"), expect=1),
        lambda: tasks.set(SUMMARISE, rule("c"), expect=0),
        lambda: tasks.rollback(SUMMARISE, expect=1),
        lambda: tasks.delete(SUMMARISE, expect=1),
    ):
        with pytest.raises(TaskConflict, match="at revision 2") as conflict:
            late()
        assert conflict.value.param == "expect"
    with pytest.raises(TaskConflict, match="does not exist"):
        tasks.set(TRANSLATE, rule("a"), expect=4)
    assert tasks.get(SUMMARISE).rule == rule("b")


def test_of_many_at_once_exactly_one_wins(tasks: TaskDirectory) -> None:
    tasks.set(SUMMARISE, rule("a"))
    won: list[str] = []

    def change(adapter: str) -> None:
        try:
            tasks.set(SUMMARISE, rule(adapter), expect=1)
        except TaskConflict:
            return
        won.append(adapter)

    threads = [threading.Thread(target=change, args=(f"b{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [rule(adapter) for adapter in won] == [tasks.get(SUMMARISE).rule]


def test_changes_of_several_processes_are_all_recorded_and_seen(tasks: TaskDirectory, tmp_path: Path) -> None:
    tasks.set(SUMMARISE, rule("first"))
    each = KEPT_REVISIONS // 4
    writers = [
        subprocess.Popen([sys.executable, "-c", CHANGE_IT, str(tmp_path), name, str(each)], cwd=ROOT)
        for name in ("x", "y")
    ]
    while any(writer.poll() is None for writer in writers):
        assert tasks.get(SUMMARISE).revisions, "a reader met half a document"
    assert [writer.wait() for writer in writers] == [0, 0]
    seen = tasks.get(SUMMARISE)
    assert seen.current.number == 1 + 2 * each
    assert {arm.adapter for revision in seen.revisions for arm in revision.rule.arms} == {
        "first",
        *(f"{name}{number}" for name in ("x", "y") for number in range(each)),
    }


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 400, b"\xff", b'{"a":' * 100_000])
def test_a_torn_file_is_named_relative_to_the_store_and_hides_no_other(
    tasks: TaskDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    tasks.set(SUMMARISE, rule("a"))
    path = file_of(tmp_path)
    tasks.set(TRANSLATE, rule("b"))
    path.write_bytes(content)
    for call in (
        lambda: tasks.get(SUMMARISE),
        lambda: tasks.set(SUMMARISE, rule("b")),
        lambda: tasks.rollback(SUMMARISE),
        lambda: tasks.delete(SUMMARISE),
    ):
        with pytest.raises(CorruptTask, match=f"tasks/{path.name}") as damage:
            call()
        assert str(tmp_path) not in damage.value.message
    with caplog.at_level(logging.WARNING):
        assert [document.name for document in tasks.list()] == ["translate"]
    assert path.name in caplog.text
    path.unlink()
    assert tasks.set(SUMMARISE, rule("b")).after.rule == rule("b")


def test_the_file_of_one_task_is_not_taken_for_another(tasks: TaskDirectory, tmp_path: Path) -> None:
    tasks.set(SUMMARISE, rule("a"))
    path = file_of(tmp_path)
    tasks.set(TRANSLATE, rule("b"))
    other = next(file for file in (tmp_path / "tasks").glob("*.json") if file != path)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CorruptTask, match="it holds the task summarise"):
        tasks.get(TRANSLATE)


def test_a_link_in_the_place_of_a_file_is_not_followed(tasks: TaskDirectory, tmp_path: Path) -> None:
    tasks.set(SUMMARISE, rule("a"))
    path = file_of(tmp_path)
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(CorruptTask):
        tasks.get(SUMMARISE)


class Refusing(FileOperations):
    """A disk that refuses the operation of the given number, and counts them."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        self.refused: int | None = None
        self.done = 0

    def _step(self) -> None:
        self.done += 1
        if self.done == self.refused:
            raise self.error

    def create(self, path: Path, mode: int = 0o644) -> int:
        self._step()
        return super().create(path, mode)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._step()
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._step()
        super().sync_directory(path)


def test_a_full_disk_at_any_write_leaves_the_old_rule_or_the_new(tmp_path: Path) -> None:
    TaskDirectory.of_store(tmp_path).set(SUMMARISE, rule("a"))
    disk = Refusing(OSError(28, "No space left on device"))
    changing = TaskDirectory.of_store(tmp_path, disk)
    outcomes = []
    for number in range(1, 20):
        disk.done, disk.refused = 0, number
        before = TaskDirectory.of_store(tmp_path).get(SUMMARISE).rule
        wanted = rule(f"b{number}")
        try:
            changing.set(SUMMARISE, wanted)
        except StoreFull:
            outcomes.append(number)
            assert TaskDirectory.of_store(tmp_path).get(SUMMARISE).rule in (before, wanted)
            assert {path.suffix for path in (tmp_path / "tasks").iterdir()} == {".json", ".lock"}
        else:
            assert TaskDirectory.of_store(tmp_path).get(SUMMARISE).rule == wanted
            break
    assert len(outcomes) >= 5


def test_a_lock_that_another_holds_is_told(
    tasks: TaskDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters_store.task_directory.LOCK_SECONDS", 0.05)
    tasks.set(SUMMARISE, rule("a"))
    with (
        exclusive_lock(file_of(tmp_path).with_suffix(".lock"), "it", seconds=1),
        pytest.raises(StoreBusy, match="task 'summarise'"),
    ):
        tasks.set(SUMMARISE, rule("b"))
    assert tasks.get(SUMMARISE).rule == rule("a")
