"""The exception tree of the server: the store's root, continued.

`server.api` turns a leaf into OpenAI's error object; nothing else decides a status.
"""

from collections.abc import Sequence
from typing import NamedTuple

from adapters_store.errors import SwitchyardError

__all__ = [
    "AdapterAlreadyLoaded",
    "AdapterUnavailable",
    "AuthenticationFailed",
    "BaseModelError",
    "BodyTooLarge",
    "ConfigurationError",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "EngineFailed",
    "EngineUnavailable",
    "ForbiddenHost",
    "ForbiddenOrigin",
    "InvalidRequest",
    "InvalidTrainingData",
    "InvalidTrainingFile",
    "LineProblem",
    "NotFound",
    "PinNotKept",
    "QueueFull",
    "RequestTimeout",
    "SwitchyardError",
    "UnsupportedEndpoint",
    "UnsupportedField",
    "UnsupportedMediaType",
]


class ConfigurationError(SwitchyardError):
    """A setting, or a combination of settings, that the server will not start with."""

    code = "configuration_error"


class BaseModelError(SwitchyardError):
    """A base model that cannot be fetched, converted or served; the message gives the reason."""

    code = "base_model_error"


class InvalidRequest(SwitchyardError):
    """A request whose field `param` is malformed or out of range."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class UnsupportedField(InvalidRequest):
    """A field that OpenAI or a peer knows and this server does not act on, named instead of ignored."""

    code = "unsupported_parameter"


class LineProblem(NamedTuple):
    """What is wrong with one line of a file; lines count from 1."""

    line: int
    message: str


class InvalidTrainingFile(InvalidRequest):
    """A training file that cannot be learnt from. `problems` are the first of `count`, in the order of the file."""

    code = "invalid_training_file"

    def __init__(self, problems: Sequence[LineProblem], count: int, *, param: str | None = "file") -> None:
        lines = "; ".join(f"line {line}: {message.rstrip('.')}" for line, message in problems)
        more = f"; and {count - len(problems):,} more" if count > len(problems) else ""
        super().__init__(f"the training file is refused: {lines}{more}", param=param)
        self.problems = tuple(problems)
        self.count = count


class InvalidTrainingData(InvalidRequest):
    """Examples that are well-formed and do not fit this base: its chat template refuses them, or hides the answers."""

    code = "invalid_training_data"


class AdapterAlreadyLoaded(InvalidRequest):
    """An adapter was to be loaded under a name that is there already, and not in its place."""

    code = "adapter_already_loaded"


class BodyTooLarge(InvalidRequest):
    """A request body beyond the server's limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(InvalidRequest):
    """A JSON route was sent a body that is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class RequestTimeout(InvalidRequest):
    """The client stopped in the middle of a request's body."""

    status = 408
    code = "request_timeout"


class ForbiddenHost(SwitchyardError):
    """A server without a key was asked under a name that is not this machine's own."""

    status = 403
    type = "permission_error"
    code = "forbidden_host"


class ForbiddenOrigin(SwitchyardError):
    """A web page from elsewhere asked a server without a key."""

    status = 403
    type = "permission_error"
    code = "forbidden_origin"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and requested tokens do not fit the context of the base."""

    code = "context_length_exceeded"


class AuthenticationFailed(SwitchyardError):
    """A missing or wrong API key."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotFound(SwitchyardError):
    """No such path or object."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class UnsupportedEndpoint(NotFound):
    """An endpoint of OpenAI or a peer that this server does not have; the message says what to use instead."""

    code = "unsupported_endpoint"


class QueueFull(SwitchyardError):
    """More requests wait than the queue holds; the header `Retry-After` has the seconds to wait."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AdapterUnavailable(SwitchyardError):
    """The adapter could not be applied and the request forbids the fallback to the base."""

    status = 503
    code = "adapter_unavailable"


class PinNotKept(SwitchyardError):
    """A pin that cannot be written to the disk, so that it would not outlast the server; no pin was changed."""

    status = 507
    code = "pin_not_kept"


class DeadlineExceeded(SwitchyardError):
    """The request was not answered within its own `timeout`; a stream that has begun ends with this, under its 200."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class EngineUnavailable(SwitchyardError):
    """The engine is starting, restarting or gone."""

    status = 503
    code = "engine_unavailable"


class EngineFailed(SwitchyardError):
    """The engine met an error of its own while it worked on this request."""

    status = 500
    code = "engine_failed"
