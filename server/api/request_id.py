"""The id of the request that is being answered, for the log."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
