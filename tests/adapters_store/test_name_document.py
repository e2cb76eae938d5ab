"""The history of an alias, and documents that contradict themselves."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.errors import InvalidName
from adapters_store.metadata import AdapterMetadata
from adapters_store.name_document import (
    NameDocument,
    StoredMove,
    StoredVersion,
    decode_document,
    encode_document,
)

METADATA = AdapterMetadata("lora", 4, 4, {4: 2}, 160, 640, "F32", "org/tiny", ("q_proj",), ("a warning",))
DIGESTS = [f"sha256:{number:064x}" for number in range(4)]
DIGEST_CHOICE = st.sampled_from(DIGESTS)


def document(*steps: str | None) -> NameDocument:
    """A name whose alias `prod` was promoted to each digest, or rolled back at None, in turn."""
    versions = tuple(StoredVersion(digest=digest, created="now", metadata=METADATA) for digest in DIGESTS)
    result = NameDocument(name="acme/support", versions=versions)
    for step in steps:
        target = result.previous("prod") if step is None else step
        if target is not None:
            reason: Any = "rollback" if step is None else "promote"
            result = result.with_move("prod", StoredMove(digest=target, moved="now", reason=reason))
    return result


def test_rollbacks_walk_back_one_move_at_a_time() -> None:
    a, b, c, _ = DIGESTS
    assert document(a, b, c).current("prod") == c
    assert document(a, b, c, None).current("prod") == b
    assert document(a, b, c, None, None).current("prod") == a
    assert document(a, b, c, None, None).previous("prod") is None


def test_after_a_rollback_a_new_move_starts_from_there() -> None:
    a, b, c, _ = DIGESTS
    assert document(a, b, None, c).previous("prod") == a
    assert document(a, b, None, c, None).current("prod") == a


def test_a_move_to_where_the_alias_is_changes_nothing() -> None:
    before = document(DIGESTS[0])
    assert before.with_move("prod", StoredMove(digest=DIGESTS[0], moved="later", reason="promote")) is before


def test_an_alias_that_does_not_exist_points_nowhere() -> None:
    assert document().current("prod") is None
    assert document().previous("prod") is None


@given(st.lists(st.none() | st.sampled_from(DIGESTS)))
def test_any_history_behaves_as_a_stack_and_survives_saving(steps: list[str | None]) -> None:
    stack: list[str] = []
    for step in steps:
        if step is not None and stack[-1:] != [step]:
            stack.append(step)
        elif step is None and len(stack) > 1:
            stack.pop()
    result = document(*steps)
    assert result.current("prod") == (stack[-1] if stack else None)
    assert result.previous("prod") == (stack[-2] if len(stack) > 1 else None)
    assert decode_document(encode_document(result)) == result


Step = tuple[str, str]
WHAT = st.sampled_from(["promote", "promote", "promote", "rollback", "rollback", "retire", "restore"])
STEPS = st.lists(st.tuples(WHAT, DIGEST_CHOICE), min_size=10, max_size=40)


def stepped(document: NameDocument, step: Step) -> NameDocument:
    """The document after a promotion, rollback, retirement or restoration, as the store does them."""
    (what, digest), version = step, document.version(step[1])
    assert version is not None
    match what:
        case "promote" if version.is_live:
            return document.with_move("prod", StoredMove(digest=digest, moved="now", reason="promote"))
        case "rollback" if (target := document.previous("prod")) is not None:
            return document.with_move("prod", StoredMove(digest=target, moved="now", reason="rollback"))
        case "retire" if not document.aliases_of(digest):
            return document.with_changed(msgspec.structs.replace(version, retired="now"))
        case "restore":
            return document.with_changed(msgspec.structs.replace(version, retired=None))
    return document


@given(STEPS, st.integers(1, 4))
def test_a_forgotten_history_takes_nothing_but_the_farthest_rollbacks(steps: list[Step], max_moves: int) -> None:
    """With retired versions a rollback passes over many steps, also those that are forgotten."""
    whole = short = document()
    for step in steps:
        with pytest.MonkeyPatch.context() as few:
            few.setattr("adapters_store.name_document.MAX_MOVES", max_moves)
            short = stepped(short, step)
        if step[0] != "rollback" or whole.previous("prod") == short.current("prod"):
            whole = stepped(whole, step)
        path = short.path("prod")
        assert path == whole.path("prod")[len(whole.path("prod")) - len(path) :]
        assert len(path) >= min(len(whole.path("prod")), 1)
        assert decode_document(encode_document(short)) == short


def test_a_rollback_to_before_what_is_remembered_begins_the_path_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters_store.name_document.MAX_MOVES", 3)
    a, b, c, d = DIGESTS
    name = document(a, b, c, b, c, b, d)
    for step in [("retire", b), ("retire", c), ("rollback", a), ("promote", d), ("promote", a)]:
        name = stepped(name, step)
        assert decode_document(encode_document(name)) == name
    assert [move.reason for move in name.aliases["prod"]] == ["rollback", "promote", "promote"]
    assert name.path("prod") == [a, d, a]


@given(st.lists(st.none() | st.sampled_from(DIGESTS), min_size=1))
def test_every_move_makes_the_file_longer(steps: list[str | None]) -> None:
    before, after = document(*steps[:-1]), document(*steps)
    assert (len(encode_document(after)) > len(encode_document(before))) == (after != before)


@given(st.integers(0, 10_000), st.integers(1, 63))
def test_the_writes_of_one_name_differ_in_size(revision: int, later: int) -> None:
    """Time, inode and size tell readers whether a file changed, and a clock may stand still for some writes."""
    sizes = {
        len(encode_document(msgspec.structs.replace(document(DIGESTS[0]), revision=number)))
        for number in (revision, revision + later)
    }
    assert len(sizes) == 2


def test_a_version_is_unused_since_its_last_alias_left_it() -> None:
    a, b, c, _ = DIGESTS
    moves = [(a, "t1"), (b, "t2"), (a, "t3"), (c, "t4")]
    name = document()
    for digest, moved in moves:
        name = name.with_move("prod", StoredMove(digest=digest, moved=moved, reason="promote"))
    since = name.unused_since()
    assert (since[a], since[b]) == ("t4", "t3")
    name = name.without_alias("prod", "t5")
    assert name.unused_since()[c] == "t5"
    retired = name.version(a)
    assert retired is not None
    assert name.with_changed(msgspec.structs.replace(retired, retired="t6")).unused_since()[a] == "t6"


def changed(**fields: Any) -> bytes:
    plain = msgspec.json.decode(encode_document(document(DIGESTS[0])))
    return msgspec.json.encode({**plain, **fields})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        encode_document(document(DIGESTS[0])).rstrip()[:-20],
        changed(format=3),
        changed(name="../etc"),
        changed(name="a@b"),
        changed(versions=[]),
        changed(versions=[{"digest": "sha256:../../x", "created": "now", "metadata": {}}]),
        changed(aliases={"prod": []}),
        changed(aliases={"../x": [{"digest": DIGESTS[0], "moved": "now", "reason": "promote"}]}),
        changed(aliases={"prod": [{"digest": f"sha256:{9:064x}", "moved": "now", "reason": "promote"}]}),
        changed(aliases={"prod": [{"digest": DIGESTS[0] + "\n", "moved": "now", "reason": "promote"}]}),
        changed(aliases={"prod": [{"digest": DIGESTS[0], "moved": "now", "reason": "rollback"}]}),
        changed(aliases={"prod": [{"digest": DIGESTS[0], "moved": "now", "reason": "stolen"}]}),
    ],
)
def test_a_torn_or_contradictory_document_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, InvalidName)):
        decode_document(text)
