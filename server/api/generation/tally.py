"""What several choices come to together: their tokens, and what answered."""

from collections.abc import Iterable
from typing import Any

from server.api.generation.pieces import Ending, Opening, Origin


class Tally:
    """Takes the opening and the ending of every choice of one answer.

    A prompt counts once, however many choices continue it; its tokens came from the prefix cache where they did
    for every choice.
    """

    def __init__(self) -> None:
        self._openings: dict[int, Opening] = {}
        self._generated = 0

    def open(self, opening: Opening) -> None:
        """A choice begins."""
        self._openings[opening.index] = opening

    def close(self, ending: Ending) -> None:
        """A choice has ended."""
        self._generated += ending.generated

    def usage(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        prompt = sum(len(opening.prompt_ids) for opening in self._by_prompt().values())
        return usage_object(prompt, self._generated, self._cached())

    def origin(self) -> Origin:
        """The `switchyard` object of the whole answer: of a choice that fell back where there is one."""
        openings = [self._openings[index] for index in sorted(self._openings)]
        fallen = (opening for opening in openings if opening.origin["fallback"] is not None)
        return {**next(fallen, openings[0]).origin, "cached_tokens": self._cached()}

    def _cached(self) -> int:
        return sum(opening.cached_tokens for opening in self._by_prompt().values())

    def _by_prompt(self) -> dict[int, Opening]:
        """Of each prompt the choice that found the least of it in the cache."""
        found: dict[int, Opening] = {}
        for opening in self._openings.values():
            known = found.get(opening.prompt)
            if known is None or opening.cached_tokens < known.cached_tokens:
                found[opening.prompt] = opening
        return found


def usage_object(prompt: int, generated: int, cached: int) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def same_origin(one: Origin, other: Origin) -> bool:
    """Whether two choices were answered by the same and for the same reason, cached and resident or not."""
    return _without_cache(one.items()) == _without_cache(other.items())


def _without_cache(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if name not in ("cached_tokens", "residency")}
