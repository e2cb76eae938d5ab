"""The task routes that a command works on: those of a server, or those of a store on this machine."""

from typing import Any, Protocol

from adapters_store import AdapterStore
from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_references import check_references, missing_references
from adapters_store.task_rule import TaskRule
from server.api.protocol.task_answers import change_answer, task_answer, task_deletion_answer, tasks_answer


class TaskCatalog(Protocol):
    """Every method answers with what the HTTP API answers, as a dict, and raises SwitchyardError.

    `expect` is the revision that must be in force (0: no such task); None takes any.
    """

    def set(self, name: TaskName, rule: TaskRule, *, expect: int | None, allow_unpublished: bool) -> dict[str, Any]:
        """Put a rule in force; its adapters must be there unless `allow_unpublished`."""

    def list(self) -> dict[str, Any]:
        """Every task."""

    def show(self, name: TaskName) -> dict[str, Any]:
        """One task."""

    def rollback(self, name: TaskName, *, to: int | None, expect: int | None) -> dict[str, Any]:
        """Put the rule before the last change in force again, or that of the revision `to`."""

    def delete(self, name: TaskName, *, expect: int | None) -> dict[str, Any]:
        """Remove a task."""


class LocalTasks:
    """A store's own directory. A server over the same directory sees every change with its next request."""

    def __init__(self, store: AdapterStore) -> None:
        self._store = store
        self._tasks = TaskDirectory.of_store(store.root)

    def set(self, name: TaskName, rule: TaskRule, *, expect: int | None, allow_unpublished: bool) -> dict[str, Any]:
        if not allow_unpublished:
            check_references(rule, self._store)
        document = self._tasks.set(name, rule, expect=expect).after
        return change_answer(document, missing_references(rule, self._store))

    def list(self) -> dict[str, Any]:
        return tasks_answer(self._tasks.list())

    def show(self, name: TaskName) -> dict[str, Any]:
        return task_answer(self._tasks.get(name))

    def rollback(self, name: TaskName, *, to: int | None, expect: int | None) -> dict[str, Any]:
        document = self._tasks.rollback(name, to=to, expect=expect)
        return change_answer(document, missing_references(document.rule, self._store))

    def delete(self, name: TaskName, *, expect: int | None) -> dict[str, Any]:
        return task_deletion_answer(self._tasks.delete(name, expect=expect))
