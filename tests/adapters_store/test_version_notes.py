"""Notes on versions: what is taken and what is refused."""

from typing import Any

import pytest

from adapters_store.errors import InvalidNotes
from adapters_store.version_notes import VersionNotes, sorted_tags


@pytest.mark.parametrize("source", ["directory", "upload", "hub:org/model@0123abc", "job:ft-1"])
def test_a_source_says_how_a_version_came(source: str) -> None:
    assert VersionNotes(source=source).source == source


@pytest.mark.parametrize(
    ("notes", "param"),
    [
        ({"source": "somewhere"}, "source"),
        ({"source": "hub:"}, "source"),
        ({"source_job": "a b"}, "source_job"),
        ({"source_job": "x" * 129}, "source_job"),
        ({"parents": ("sha256:0",)}, "parents"),
        ({"parents": (f"sha256:{0:064x}",) * 17}, "parents"),
        ({"evaluation": {"": 1}}, "evaluation"),
        ({"evaluation": {"loss": float("nan")}}, "evaluation.loss"),
        ({"evaluation": {"n": 2**53 + 1}}, "evaluation.n"),
        ({"evaluation": {"verdict": "x" * 513}}, "evaluation.verdict"),
        ({"evaluation": {f"r{number}": 1 for number in range(65)}}, "evaluation"),
        ({"description": "x" * 2001}, "description"),
        ({"description": "a\x00b"}, "description"),
        ({"tags": ("b", "a")}, "tags"),
        ({"tags": ("a b",)}, "tags"),
    ],
)
def test_a_malformed_note_is_refused_by_name(notes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidNotes) as refused:
        VersionNotes(**notes)
    assert refused.value.param == param


def test_tags_are_words_or_pairs_sorted_and_once() -> None:
    assert sorted_tags(["b", "lang=de", "a", "b"]) == ["a", "b", "lang=de"]
    for tag in ("", "=", "a=", "a=b=c", "-x", "ä", "a\n", "x" * 129):
        with pytest.raises(InvalidNotes):
            sorted_tags([tag])


def test_the_first_source_stays_and_the_rest_is_renewed() -> None:
    old = VersionNotes(source="upload", description="old", evaluation={"a": 1}, tags=("x",))
    new = old.updated(VersionNotes(source="directory", description="", evaluation={"b": 2}, tags=("w",)))
    assert new == VersionNotes(source="upload", description="", evaluation={"b": 2}, tags=("w", "x"))
