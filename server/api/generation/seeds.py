"""Seeds of several choices, from the one that the client gave."""

import hashlib


def choice_seed(seed: int, number: int) -> int:
    """The seed of the `number`-th choice of a prompt; the first one has the client's own.

    A hash, so that choices of neighbouring seeds have nothing in common. The result is a signed 64-bit integer.
    """
    if number == 0:
        return seed
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
