"""What the task routes and the `switchyard tasks` commands say of tasks."""

from collections.abc import Sequence
from typing import Any

import msgspec

from adapters_store.task_document import Revision, TaskDocument


def task_answer(document: TaskDocument) -> dict[str, Any]:
    """One task with the rule in force and its last revisions, oldest first."""
    return {
        "id": document.name,
        "object": "task",
        "created": document.created,
        "revision": document.current.number,
        "rule": msgspec.to_builtins(document.rule),
        "revisions": [_revision_answer(revision) for revision in document.revisions],
    }


def change_answer(document: TaskDocument, warnings: Sequence[str]) -> dict[str, Any]:
    """A task that was set or rolled back; `warnings` name the adapters of its rule that are not there."""
    return {**task_answer(document), "warnings": list(warnings)}


def tasks_answer(documents: Sequence[TaskDocument]) -> dict[str, Any]:
    """Every task."""
    return {"object": "list", "data": [task_answer(document) for document in documents]}


def task_deletion_answer(document: TaskDocument) -> dict[str, Any]:
    """A task that is gone."""
    return {"id": document.name, "object": "task", "deleted": True}


def _revision_answer(revision: Revision) -> dict[str, Any]:
    return {
        "number": revision.number,
        "changed": revision.changed,
        "restores": revision.restores,
        "rule": msgspec.to_builtins(revision.rule),
    }
