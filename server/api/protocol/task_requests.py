"""Bodies and query parameters of the task routes."""

from pydantic import Field

from server.api.protocol.strict_fields import StrictFields


class TaskRollbackRequest(StrictFields):
    """Which rule of a task to put in force again."""

    to: int | None = Field(None, ge=1, description="The revision to restore; the one before that in force by default.")
    expect: int | None = Field(None, ge=0, description="The revision in force now; 409 when that is not so.")
