"""Bodies of the adapter routes."""

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.protocol.strict_fields import StrictFields


class PromoteRequest(StrictFields):
    """Which alias to move, and to which version."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    alias: str = Field("prod", description="The alias to move; created when absent.")
    digest: str | None = Field(None, description="The version to point it at.")
    source: str | None = Field(None, alias="from", description="The alias whose version to point it at; `latest`.")
    expect: str | None = Field(None, description="The digest it points at now; 409 when that is not so.")

    @model_validator(mode="after")
    def _one_source(self) -> "PromoteRequest":
        if self.digest is not None and self.source is not None:
            raise PydanticCustomError("value_error", "may not be given together with digest", {"field": "from"})
        return self


class RollbackRequest(StrictFields):
    """Which alias to move back."""

    alias: str = Field("prod", description="The alias to move back.")
