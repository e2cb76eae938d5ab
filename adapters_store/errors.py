"""The root of the project's one exception tree, and what the store raises.

`server.errors` continues the tree. A leaf carries what an OpenAI client needs to see: an HTTP status, an
error `type` and a stable `code`; `param` names the field that was wrong, where there is one.
"""

from typing import ClassVar


class SwitchyardError(Exception):
    """Anything that Switchyard raises on purpose. The message says what is wrong and how to mend it."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class StoreError(SwitchyardError):
    """The store could not do what was asked."""

    code = "store_error"


class InvalidName(StoreError):
    """A model, adapter or alias name that the grammar does not know."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_model_name"


class UnknownAdapter(StoreError):
    """No adapter, alias or version of this name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class InvalidAdapter(StoreError):
    """An adapter directory that may not be published; `param` names the file, field or tensor."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_adapter"


class AdapterTooLarge(InvalidAdapter):
    """An adapter beyond a limit on bytes, rank or tensors."""

    status = 413
    code = "adapter_too_large"


class AliasConflict(StoreError):
    """An alias moved between a caller's read and its write; nothing was changed."""

    status = 409
    type = "invalid_request_error"
    code = "alias_conflict"


class CorruptVersion(StoreError):
    """A stored version whose files are missing, torn or hash to another digest."""

    status = 503
    code = "corrupt_adapter"


class MissingFiles(CorruptVersion):
    """A stored version of which a file is not there, or cannot be read."""


class ChecksumMismatch(CorruptVersion):
    """A stored version whose files hash to another digest than its own."""


class StoreBusy(StoreError):
    """Another writer held a lock of the store for too long; nothing was changed."""

    status = 503
    code = "store_busy"
