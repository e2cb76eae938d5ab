"""Where a request goes: what its `model` and `task` fields mean at this moment."""

from dataclasses import dataclass

from server.api.model_names import Target


@dataclass(frozen=True)
class Routing:
    """The targets of one request, in the order in which they are tried.

    `targets` is never empty: each one after the first answers when the one before it could not be applied, and
    only the last may fall back to the base. `shadows` get a copy whose answer nobody sees. `task` and `rule` say
    how a task route chose, and are None where the client named a model.
    """

    targets: tuple[Target, ...]
    shadows: tuple[Target, ...] = ()
    task: str | None = None
    rule: str | None = None
