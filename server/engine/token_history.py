"""Which tokens a text has had, kept up to date as it grows."""

from collections import Counter
from collections.abc import Sequence as Seq

import torch


class TokenHistory:
    """The different tokens of a growing text from its token `start` on, and how often each occurs.

    A step then pays for the tokens that came since the last one, and not for the whole text.
    """

    def __init__(self, start: int = 0) -> None:
        self._taken = start
        self._places: dict[int, int] = {}
        self._ids = torch.empty(0, dtype=torch.long)
        self._counts = torch.empty(0)

    def follow(self, tokens: Seq[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The different tokens, int64 [n] on the CPU, and their counts, fp32 [n]; valid until the next call.

        `tokens` is the whole text and begins with what the last call was given.
        """
        came = Counter(tokens[self._taken :])
        self._taken = max(self._taken, len(tokens))
        if came:
            self._make_room([token for token in came if token not in self._places])
            places = torch.tensor([self._places[token] for token in came])
            self._counts[places] += torch.tensor(list(came.values()), dtype=torch.float32)
        known = len(self._places)
        return self._ids[:known], self._counts[:known]

    def _make_room(self, new: list[int]) -> None:
        """Give tokens that were never seen a place, with a count of 0."""
        begin, end = len(self._places), len(self._places) + len(new)
        if end > len(self._ids):
            spare = max(end, 2 * len(self._ids)) - len(self._ids)
            self._ids = torch.cat((self._ids, torch.empty(spare, dtype=torch.long)))
            self._counts = torch.cat((self._counts, torch.empty(spare)))
        self._ids[begin:end] = torch.tensor(new, dtype=torch.long)
        self._counts[begin:end] = 0
        self._places.update((token, begin + place) for place, token in enumerate(new))
