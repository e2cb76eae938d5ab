"""The history of a growing text is that of the whole text, however it came."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.engine.token_history import TokenHistory

texts = st.lists(st.integers(0, 30), max_size=60)


@given(text=texts, steps=st.lists(st.integers(0, 60), max_size=6).map(sorted), start=st.integers(0, 20))
def test_it_counts_what_came_since_its_start(text: list[int], steps: list[int], start: int) -> None:
    history = TokenHistory(start)
    for step in [*steps, len(text)]:
        so_far = text[: min(step, len(text))]
        ids, counts = history.follow(so_far)
        assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == Counter(so_far[start:])
        assert len(set(ids.tolist())) == len(ids)
