"""Why the base answers in the place of an adapter."""

from typing import Final, Literal

from server.engine.messages import FALLBACK_REASONS, FallbackReason

FallbackCause = FallbackReason | Literal["unresolved"]

UNRESOLVED: Final = "unresolved"
"""The store does not have the adapter that a task names: the engine never hears of it."""

FALLBACK_CAUSES: Final[tuple[FallbackCause, ...]] = (*FALLBACK_REASONS, UNRESOLVED)
