"""What an event of the engine that ends a request without an answer stands for."""

from server.engine.messages import Failed, RequestEvent, Tokens
from server.errors import (
    AdapterUnavailable,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    SwitchyardError,
)

_FAILURES: dict[str, type[SwitchyardError]] = {
    error.code: error
    for error in (AdapterUnavailable, DeadlineExceeded, EngineFailed, EngineUnavailable, InvalidRequest)
}


def raise_failure(event: RequestEvent) -> None:
    """Raise the error that a terminal event which is no answer stands for; others pass.

    Raises:
        AdapterUnavailable, DeadlineExceeded, EngineUnavailable, EngineFailed, InvalidRequest: as the event says.
    """
    if isinstance(event, Failed):
        reason = f" ({event.reason})" if event.reason is not None else ""
        raise _FAILURES[event.code](f"{event.message}{reason}")
    if isinstance(event, Tokens) and event.finish_reason == "cancelled":
        raise EngineUnavailable("the server is shutting down")
