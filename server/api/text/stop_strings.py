"""Stop strings in a stream of text chunks, found before any part of one is shown."""

from collections.abc import Sequence


class _Pattern:
    """One stop string as a Knuth-Morris-Pratt automaton; `matched` characters of it end the text so far."""

    __slots__ = ("matched", "needle", "overlap")

    def __init__(self, needle: str) -> None:
        self.needle = needle
        self.overlap = _overlaps(needle)
        self.matched = 0

    def advance(self, character: str) -> bool:
        """Take one character; true when the whole string has been seen."""
        matched = self.matched
        while matched and self.needle[matched] != character:
            matched = self.overlap[matched - 1]
        if self.needle[matched] == character:
            matched += 1
        self.matched = matched
        return matched == len(self.needle)


def _overlaps(needle: str) -> list[int]:
    """For every prefix of `needle`, the length of its longest proper suffix that is also a prefix."""
    overlap = [0] * len(needle)
    length = 0
    for index in range(1, len(needle)):
        while length and needle[index] != needle[length]:
            length = overlap[length - 1]
        if needle[index] == needle[length]:
            length += 1
        overlap[index] = length
    return overlap


class StopScanner:
    """Passes text on, holding back the longest end that may still become a stop string.

    The stop string that is complete first wins; of two that complete on the same character, the longer one.
    So the result does not depend on how the text was cut into chunks. Stop strings must not be empty.
    `found` is the one that was met; with `include` it stays in the text.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._patterns = [_Pattern(stop) for stop in dict.fromkeys(stops)]
        self._firsts = frozenset(stop[0] for stop in stops)
        self._include = include
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Take the next chunk and return what may be shown.

        After a match `found` is set, the match and all that follows it are dropped, and nothing more comes.
        """
        if self.found is not None:
            return ""
        if not self._held and self._firsts.isdisjoint(text):
            return text
        buffer = self._held + text
        for index, character in enumerate(text, start=len(self._held)):
            longest = ""
            for pattern in self._patterns:
                if pattern.advance(character):
                    longest = max(longest, pattern.needle, key=len)
            if longest:
                self.found = longest
                self._held = ""
                return buffer[: index + 1 - (0 if self._include else len(longest))]
        holding = max((pattern.matched for pattern in self._patterns), default=0)
        shown = len(buffer) - holding
        self._held = buffer[shown:]
        return buffer[:shown]

    def flush(self) -> str:
        """The text that was held back and, as the end has come, is no stop string."""
        held, self._held = self._held, ""
        return held
