"""The revisions of a task, and documents that contradict themselves."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.errors import InvalidName, InvalidTask, UnknownTask
from adapters_store.names import TaskName
from adapters_store.task_document import (
    KEPT_REVISIONS,
    TaskDocument,
    decode_document,
    encode_document,
    new_document,
)
from adapters_store.task_rule import Arm, TaskRule

NOW = "2026-01-01T12:00:00.000Z"


def rule(adapter: str) -> TaskRule:
    return TaskRule(arms=(Arm(adapter=adapter),))


def document(*adapters: str) -> TaskDocument:
    """A task whose rule was set to each adapter in turn."""
    first, *others = adapters
    result = new_document(TaskName("summarise"), rule(first), NOW)
    for adapter in others:
        result = result.with_rule(rule(adapter), NOW)
    return result


def test_a_change_is_one_more_revision() -> None:
    changed = document("a", "b")
    assert (changed.current.number, changed.rule) == (2, rule("b"))
    assert [revision.rule for revision in changed.revisions] == [rule("a"), rule("b")]


def test_rollbacks_walk_back_one_revision_at_a_time() -> None:
    once = document("a", "b", "c").rolled_back(NOW)
    assert (once.current.number, once.rule, once.current.restores) == (4, rule("b"), 2)
    twice = once.rolled_back(NOW)
    assert (twice.current.number, twice.rule, twice.current.restores) == (5, rule("a"), 1)
    with pytest.raises(UnknownTask, match="no earlier rule"):
        twice.rolled_back(NOW)


def test_a_change_after_a_rollback_can_be_rolled_back() -> None:
    changed = document("a", "b").rolled_back(NOW).with_rule(rule("c"), NOW)
    assert changed.rolled_back(NOW).rule == rule("a")


def test_any_kept_revision_can_be_restored() -> None:
    assert document("a", "b", "c").rolled_back(NOW, 1).rule == rule("a")
    with pytest.raises(UnknownTask, match="no revision 7: its revisions are 1 to 3"):
        document("a", "b", "c").rolled_back(NOW, 7)


def test_the_oldest_revisions_go() -> None:
    long = document(*(f"a{number}" for number in range(KEPT_REVISIONS + 5)))
    assert len(long.revisions) == KEPT_REVISIONS
    assert (long.revisions[0].number, long.current.number) == (6, KEPT_REVISIONS + 5)
    with pytest.raises(UnknownTask):
        long.rolled_back(NOW, 1)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=50))
def test_every_document_reads_back(steps: list[str | None]) -> None:
    known = document("first")
    for step in steps:
        try:
            known = known.rolled_back(NOW) if step is None else known.with_rule(rule(step), NOW)
        except UnknownTask:
            continue
        assert known.rule in [revision.rule for revision in known.revisions]
    assert decode_document(encode_document(known)) == known


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"},
        {"revisions": []},
        {"format": 2},
        {"created": "yesterday"},
        {"revisions": [{"number": 1, "rule": {"arms": []}, "changed": NOW}]},
        {"revisions": [{"number": 0, "rule": {"arms": [{"adapter": "a"}]}, "changed": NOW}]},
        {"revisions": [{"number": 1, "rule": {"arms": [{"adapter": "a"}]}, "changed": NOW, "restores": 3}]},
        {"revisions": [{"number": number, "rule": {"arms": [{"adapter": "a"}]}, "changed": NOW} for number in (1, 3)]},
    ],
)
def test_a_document_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    text = msgspec.json.encode(msgspec.to_builtins(document("a")) | change)
    with pytest.raises((ValueError, InvalidTask, InvalidName)):
        decode_document(text)
