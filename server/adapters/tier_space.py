"""Which versions of a tier make place for another."""

from collections.abc import Iterable


def victims_for(size_bytes: int, free_bytes: int, evictable: Iterable[tuple[str, int, float]]) -> list[str] | None:
    """The first of `evictable` (key, bytes, reload seconds) that free enough; None where all of them would not do."""
    victims: list[str] = []
    if free_bytes >= size_bytes:
        return victims
    for key, victim_bytes, _ in evictable:
        victims.append(key)
        free_bytes += victim_bytes
        if free_bytes >= size_bytes:
            return victims
    return None
