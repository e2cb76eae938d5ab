"""Bodies of the adapter routes."""

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from adapters_store.version_notes import VersionNotes, sorted_tags
from server.api.protocol.strict_fields import StrictFields

_EXPECT = "The digest it points at now, or `none` where it must not be there; 409 when that is not so."


class PublishRequest(StrictFields):
    """Where an adapter is to be fetched from, instead of an upload."""

    source: str = Field(min_length=1, description="`hub:OWNER/NAME@REVISION`; the main branch without a revision.")


class PromoteRequest(StrictFields):
    """Which alias to move, and to which version."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    alias: str = Field("prod", description="The alias to move; created when absent.")
    digest: str | None = Field(None, description="The version to point it at.")
    source: str | None = Field(None, alias="from", description="The alias whose version to point it at; `latest`.")
    expect: str | None = Field(None, description=_EXPECT)

    @model_validator(mode="after")
    def _one_source(self) -> "PromoteRequest":
        _check_one_source(self.digest, self.source)
        return self


class RollbackRequest(StrictFields):
    """Which alias to move back."""

    alias: str = Field("prod", description="The alias to move back.")
    expect: str | None = Field(None, description=_EXPECT)


class UnaliasRequest(StrictFields):
    """Which alias to remove."""

    alias: str = Field(description="The alias to remove, with its history.")


class VersionRequest(StrictFields):
    """Which version to retire or restore."""

    digest: str = Field(description="The version.")


class PinRequest(StrictFields):
    """What to pin, or whose pin to take back."""

    alias: str | None = Field(
        None, description="The alias whose version to keep resident, wherever it moves; `latest`."
    )
    digest: str | None = Field(None, description="Instead, one version.")

    @model_validator(mode="after")
    def _one_version(self) -> "PinRequest":
        if self.digest is not None and self.alias is not None:
            raise PydanticCustomError("value_error", "may not be given together with digest", {"field": "alias"})
        return self


class NotesRequest(StrictFields):
    """What to note of which version."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    digest: str | None = Field(None, description="The version.")
    source: str | None = Field(None, alias="from", description="Instead, the alias that points to it; `latest`.")
    description: str | None = Field(None, description="What the version is; empty takes it away.")
    evaluation: dict[str, bool | int | float | str] = Field({}, description="Results by name, in the place of others.")
    source_job: str | None = Field(None, description="The training job that it comes from.")
    parents: list[str] = Field([], description="Digests that it was made from.")
    tags: list[str] = Field([], description="Tags to add: words, or key=word.")
    remove_tags: list[str] = Field([], description="Tags to take away.")

    @model_validator(mode="after")
    def _one_source(self) -> "NotesRequest":
        _check_one_source(self.digest, self.source)
        return self

    def notes(self) -> VersionNotes:
        """What is to be noted.

        Raises:
            InvalidNotes: a note is malformed or beyond its bound; `param` names it.
        """
        return VersionNotes(
            description=self.description,
            evaluation=dict(self.evaluation),
            source_job=self.source_job,
            parents=tuple(self.parents),
            tags=tuple(sorted_tags(self.tags)),
        )


def _check_one_source(digest: str | None, source: str | None) -> None:
    if digest is not None and source is not None:
        raise PydanticCustomError("value_error", "may not be given together with digest", {"field": "from"})
