"""What the store keeps for one task route: its rule, and the rules that it had before."""

from datetime import datetime
from typing import Final, Literal

import msgspec

from adapters_store.errors import UnknownTask
from adapters_store.names import TaskName
from adapters_store.task_rule import TaskRule, check_rule

KEPT_REVISIONS: Final = 32


class Revision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of the rule. `restores` is the revision that a rollback brought back."""

    number: int
    rule: TaskRule
    changed: str
    restores: int | None = None

    @property
    def origin(self) -> int:
        """The revision whose content this is: its own number, or that of the one it brought back."""
        return self.number if self.restores is None else self.restores


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A task and its last revisions, oldest first; the last is in force. Times are ISO 8601 in UTC."""

    name: str
    created: str
    revisions: tuple[Revision, ...]
    format: Literal[1] = 1

    @property
    def task_name(self) -> TaskName:
        return TaskName(self.name)

    @property
    def current(self) -> Revision:
        """The revision in force."""
        return self.revisions[-1]

    @property
    def rule(self) -> TaskRule:
        """The rule in force."""
        return self.current.rule

    def with_rule(self, rule: TaskRule, now: str, *, restores: int | None = None) -> "TaskDocument":
        """The document with one more revision; the oldest one goes when there are too many."""
        revision = Revision(number=self.current.number + 1, rule=rule, changed=now, restores=restores)
        return msgspec.structs.replace(self, revisions=(*self.revisions, revision)[-KEPT_REVISIONS:])

    def rolled_back(self, now: str, to: int | None = None) -> "TaskDocument":
        """The document with the rule of revision `to` in force; None is the one before that in force.

        Like the rollback of an alias, a second one leads to the one before that, and not back again.

        Raises:
            UnknownTask: there is no such revision, or none before.
        """
        wanted = self.current.origin - 1 if to is None else to
        found = next((revision for revision in self.revisions if revision.number == wanted), None)
        if found is None:
            kept = f"{self.revisions[0].number} to {self.current.number}"
            what = "no earlier rule to roll back to" if to is None else f"no revision {to}"
            raise UnknownTask(f"task {self.name!r} has {what}: its revisions are {kept}; set a rule instead")
        return self.with_rule(found.rule, now, restores=found.origin)


def new_document(name: TaskName, rule: TaskRule, now: str) -> TaskDocument:
    """The document of a task that is new."""
    return TaskDocument(name=name.name, created=now, revisions=(Revision(number=1, rule=rule, changed=now),))


def encode_document(document: TaskDocument) -> bytes:
    """The document as JSON that people can read, too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_document(text: bytes) -> TaskDocument:
    """Read a document and check what its types cannot say.

    Raises:
        ValueError, InvalidTask, InvalidName: it is not a document of this format, or contradicts itself.
    """
    document = msgspec.json.decode(text, type=TaskDocument)
    _ = document.task_name
    datetime.fromisoformat(document.created)
    if not document.revisions:
        raise ValueError("there is no revision")
    first = document.revisions[0].number
    for offset, revision in enumerate(document.revisions):
        if revision.number != first + offset or not 1 <= revision.origin <= revision.number:
            raise ValueError("the revisions are not numbered in order")
        check_rule(revision.rule)
    return document
