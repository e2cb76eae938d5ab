"""Several streams read as one."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from server.api.generation.interleaving import interleaved

pytestmark = pytest.mark.anyio


async def counting(name: str, count: int, ended: list[str], fail_at: int | None = None) -> AsyncGenerator[str]:
    try:
        for number in range(count):
            if number == fail_at:
                raise ValueError(name)
            yield f"{name}{number}"
            await asyncio.sleep(0)
    finally:
        ended.append(name)


async def test_all_items_come_and_each_stream_keeps_its_order() -> None:
    ended: list[str] = []
    items = [item async for item in interleaved([counting("a", 4, ended), counting("b", 2, ended)])]
    assert sorted(items) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    for name in "ab":
        assert [item for item in items if item.startswith(name)] == sorted(i for i in items if i.startswith(name))
    assert items.index("b0") < items.index("a3")
    assert sorted(ended) == ["a", "b"]


async def test_one_stream_is_itself() -> None:
    stream = counting("a", 1, [])
    assert interleaved([stream]) is stream
    assert [item async for item in stream] == ["a0"]


async def test_the_first_error_ends_all() -> None:
    ended: list[str] = []
    with pytest.raises(ValueError, match="b"):
        async for _ in interleaved([counting("a", 10_000, ended), counting("b", 5, ended, fail_at=2)]):
            pass
    await asyncio.sleep(0.01)
    assert sorted(ended) == ["a", "b"]


async def test_closing_ends_all() -> None:
    ended: list[str] = []
    merged = interleaved([counting("a", 10_000, ended), counting("b", 10_000, ended)])
    await anext(merged)
    await merged.aclose()
    await asyncio.sleep(0.01)
    assert sorted(ended) == ["a", "b"]


async def test_streams_run_no_further_ahead_than_their_number() -> None:
    made: list[str] = []

    async def noting(name: str) -> AsyncGenerator[str]:
        for number in range(100):
            made.append(name)
            yield f"{name}{number}"

    merged = interleaved([noting("a"), noting("b")])
    await anext(merged)
    await asyncio.sleep(0.01)
    assert len(made) <= 6
    await merged.aclose()
