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


class InvalidNotes(StoreError):
    """A tag, description, evaluation or other note on a version that is malformed or too long."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_notes"


class UnknownAdapter(StoreError):
    """No adapter, alias or version of this name.

    `suggestions` are names that may have been meant, the nearest first; the message has them. `is_name` says that the
    name itself is unknown, and not an alias or version of a name that there is.
    """

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(
        self, message: str, *, param: str | None = None, suggestions: tuple[str, ...] = (), is_name: bool = False
    ) -> None:
        super().__init__(message, param=param)
        self.suggestions = suggestions
        self.is_name = is_name


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


class VersionInUse(StoreError):
    """A version that an alias points to cannot be retired; nothing was changed."""

    status = 409
    type = "invalid_request_error"
    code = "version_in_use"


class VersionRetired(StoreError):
    """A version that was retired or collected cannot be what an alias is moved to; nothing was changed."""

    status = 409
    type = "invalid_request_error"
    code = "version_retired"


class ChatTemplateFailed(StoreError):
    """An adapter's chat template that does not compile, refuses the messages, or takes too much time or memory."""

    status = 400
    type = "invalid_request_error"
    code = "chat_template_failed"


class ForbiddenSource(StoreError):
    """A directory or hub that the operator does not let adapters be published from."""

    status = 403
    type = "permission_error"
    code = "forbidden_source"


class SourceUnavailable(StoreError):
    """A hub that could not be reached, or does not have what was asked for."""

    status = 502
    type = "api_error"
    code = "source_unavailable"


class CorruptVersion(StoreError):
    """A stored version whose files are missing, torn or hash to another digest."""

    status = 503
    code = "corrupt_adapter"


class MissingFiles(CorruptVersion):
    """A stored version of which a file is not there, or cannot be read."""


class ChecksumMismatch(CorruptVersion):
    """A stored version whose files hash to another digest than its own."""


class StoreBusy(StoreError):
    """Another writer held a lock of the store for too long; nothing was changed.

    `retry_after` is how many seconds to wait before asking again.
    """

    status = 503
    code = "store_busy"
    retry_after: ClassVar[int] = 2


class InvalidTask(StoreError):
    """A rule of a task route that may not be set; `param` names the field."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_task"


class UnknownTask(StoreError):
    """No task route of this name, or none of its adapters is there."""

    status = 404
    type = "invalid_request_error"
    code = "task_not_found"


class TaskConflict(StoreError):
    """A task route was changed between a caller's read and its write; nothing was changed."""

    status = 409
    type = "invalid_request_error"
    code = "task_conflict"


class CorruptTask(StoreError):
    """The file of a task route is torn, foreign or unreadable."""

    status = 503
    code = "corrupt_task"


class StoreFull(StoreError):
    """The store's disk has no space left, its quota is spent, or one name has too many versions.

    What was there is whole.
    """

    status = 507
    code = "store_full"
