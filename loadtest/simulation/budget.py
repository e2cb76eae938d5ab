"""Cache sizes as people write them: in bytes, or in multiples of the largest adapter."""

_UNITS = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_budget(text: str, largest_bytes: int) -> int:
    """`16x` (times the largest adapter), `512MiB` or `100000`, in bytes.

    Raises:
        ValueError: the text is none of these.
    """
    written = text.strip().lower()
    units = {"x": largest_bytes, **_UNITS, "": 1}
    unit = next(unit for unit in ("x", "kib", "mib", "gib", "b", "") if written.endswith(unit))
    try:
        size = float(written.removesuffix(unit)) * units[unit]
        if not 0 <= size < 2**63:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is no size: write 16x (times the largest adapter), 512MiB or bytes") from None
    return int(size)
