"""Where a request goes: what its `model` and `task` fields mean at this moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.api.model_names import ModelNames, Target


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


class Router:
    """Decides for every request what it runs on."""

    def __init__(self, names: ModelNames) -> None:
        self._names = names

    async def route(self, model: str, labels: Mapping[str, str]) -> Routing:  # noqa: ARG002
        """What `model` means now. `labels` are the request's own (`user`, `prompt_cache_key`, …), by field.

        Raises:
            InvalidName: outside the grammar, on another base than the served one, or a composition.
            UnknownAdapter: no such adapter, alias or version.
        """
        return Routing((await self._names.resolve(model),))
