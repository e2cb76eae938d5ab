"""What people and trainers say of a version: where it came from, how it did, what to call it."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from adapters_store.errors import InvalidNotes
from adapters_store.quoting import quoted

MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 128
MAX_PARENTS: Final = 16
MAX_DESCRIPTION_CHARS: Final = 2000
MAX_SOURCE_CHARS: Final = 512
MAX_RESULTS: Final = 64
MAX_RESULT_CHARS: Final = 512

Result = bool | int | float | str
"""One figure or word of an evaluation."""

_SLUG = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_TAG = re.compile(rf"{_SLUG}(?:={_SLUG})?")
_SOURCE = re.compile(r"(?:directory|upload)|(?:hub|job):[A-Za-z0-9][A-Za-z0-9._/@-]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST_INTEGER = 2**53


class VersionNotes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Notes on a version under one name. The digest does not cover them.

    `source` says how it came: `directory`, `upload`, `hub:<id>@<revision>` or `job:<id>`. `source_job` is the
    training job, `parents` are the digests it was made from. `evaluation` holds figures and words by name. `tags`
    are slugs or `key=value` pairs of them, sorted.

    Raises:
        InvalidNotes: a note is malformed or beyond its bound; `param` names it.
    """

    source: str | None = None
    source_job: str | None = None
    parents: tuple[str, ...] = ()
    evaluation: dict[str, Result] = {}
    description: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_source(self.source)
        if self.source_job is not None and not (len(self.source_job) <= 128 and re.fullmatch(_SLUG, self.source_job)):
            raise InvalidNotes("source_job must be at most 128 letters, digits, `.`, `_` or `-`", param="source_job")
        if len(self.parents) > MAX_PARENTS or not all(_DIGEST.fullmatch(parent) for parent in self.parents):
            raise InvalidNotes(
                f"parents must be at most {MAX_PARENTS} digests, each `sha256:` and 64 lower-case hex digits",
                param="parents",
            )
        _check_evaluation(self.evaluation)
        _check_description(self.description)
        if list(self.tags) != sorted_tags(self.tags):
            raise InvalidNotes("tags must be sorted and without repetition", param="tags")

    def updated(self, newer: "VersionNotes") -> "VersionNotes":
        """These notes with what `newer` says: its tags are added, anything else that it gives replaces."""
        return VersionNotes(
            source=newer.source if self.source is None else self.source,
            source_job=newer.source_job if newer.source_job is not None else self.source_job,
            parents=newer.parents or self.parents,
            evaluation=newer.evaluation or self.evaluation,
            description=newer.description if newer.description is not None else self.description,
            tags=tuple(sorted_tags((*self.tags, *newer.tags))),
        )


def sorted_tags(tags: Iterable[str]) -> list[str]:
    """Tags in order, each once.

    Raises:
        InvalidNotes: one is no tag, or there are too many.
    """
    result = sorted(set(tags))
    for tag in result:
        if len(tag) > MAX_TAG_CHARS or not _TAG.fullmatch(tag):
            raise InvalidNotes(
                f"tag {quoted(tag)} must be a word or key=word of letters, digits, `.`, `_` and `-`, at most "
                f"{MAX_TAG_CHARS} characters",
                param="tags",
            )
    if len(result) > MAX_TAGS:
        raise InvalidNotes(f"a version has at most {MAX_TAGS} tags: remove some", param="tags")
    return result


def _check_source(source: str | None) -> None:
    if source is not None and (len(source) > MAX_SOURCE_CHARS or not _SOURCE.fullmatch(source)):
        raise InvalidNotes(
            f"source {quoted(source)} must be `directory`, `upload`, `hub:<id>@<revision>` or `job:<id>`",
            param="source",
        )


def _check_evaluation(evaluation: Mapping[str, Result]) -> None:
    if len(evaluation) > MAX_RESULTS:
        raise InvalidNotes(f"evaluation has more than {MAX_RESULTS} entries", param="evaluation")
    for name, value in evaluation.items():
        if not 0 < len(name) <= 96 or not name.isprintable():
            raise InvalidNotes("a name in evaluation must have 1 to 96 printable characters", param="evaluation")
        if isinstance(value, str) and (len(value) > MAX_RESULT_CHARS or not value.isprintable()):
            raise InvalidNotes(
                f"evaluation.{name} must have at most {MAX_RESULT_CHARS} printable characters",
                param=f"evaluation.{name}",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidNotes(f"evaluation.{name} is not a finite number", param=f"evaluation.{name}")
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            raise InvalidNotes(
                f"evaluation.{name} is an integer beyond 2^53, which JSON readers round: write it as text",
                param=f"evaluation.{name}",
            )


def _check_description(description: str | None) -> None:
    if description is None:
        return
    if len(description) > MAX_DESCRIPTION_CHARS or not description.replace("\n", " ").isprintable():
        # "" is printable: it takes a description away.
        raise InvalidNotes(
            f"description must have at most {MAX_DESCRIPTION_CHARS} printable characters and line breaks",
            param="description",
        )
