"""How deeply a client's JSON may be nested: far below where Python's own recursion ends."""

from typing import Final

MAX_NESTING: Final = 200


def is_nested_too_deeply(value: object) -> bool:
    """Whether decoded JSON has more than `MAX_NESTING` levels of objects and lists."""
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level and depth <= MAX_NESTING:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth > MAX_NESTING
