"""The task routes of a running server, over HTTP."""

from typing import Any

import msgspec

from adapters_store.names import TaskName
from adapters_store.task_rule import TaskRule
from server.commands.server_connection import ServerConnection


class RemoteTasks:
    """The task routes of a running server."""

    def __init__(self, connection: ServerConnection) -> None:
        self._call = connection.call

    def set(self, name: TaskName, rule: TaskRule, *, expect: int | None, allow_unpublished: bool) -> dict[str, Any]:
        params = _given(expect=expect, allow_unpublished=allow_unpublished or None)
        return self._call("PUT", f"/v1/tasks/{name.name}", params=params, json=msgspec.to_builtins(rule))

    def list(self) -> dict[str, Any]:
        return self._call("GET", "/v1/tasks")

    def show(self, name: TaskName) -> dict[str, Any]:
        return self._call("GET", f"/v1/tasks/{name.name}")

    def rollback(self, name: TaskName, *, to: int | None, expect: int | None) -> dict[str, Any]:
        return self._call("POST", f"/v1/tasks/{name.name}/rollback", json=_given(to=to, expect=expect))

    def delete(self, name: TaskName, *, expect: int | None) -> dict[str, Any]:
        return self._call("DELETE", f"/v1/tasks/{name.name}", params=_given(expect=expect))


def _given(**values: int | bool | None) -> dict[str, int | bool]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
