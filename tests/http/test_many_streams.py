"""Two hundred streams at once, a third of them cut by their clients: nothing leaks and the server answers on."""

import asyncio
import random

import httpx

from tests.http.client import body, complete, stream, text_of
from tests.http.real_server import RealServer

STREAMS = 200
TOKENS = 24


def test_cut_streams_leave_nothing_behind(server: RealServer, adapters: dict[str, str]) -> None:
    models = ["base", *adapters]
    expected = {model: text_of(complete(server, model, max_tokens=TOKENS)) for model in models}
    choose = random.Random(0)

    async def one(client: httpx.AsyncClient, index: int) -> str:
        model = models[index % len(models)]
        cut_after = choose.randrange(1, TOKENS // 2) if index % 3 == 0 else None
        text = ""
        received = 0
        chunks = stream(client, server, **body(model, max_tokens=TOKENS))
        async for chunk in chunks:
            text += chunk["choices"][0]["text"]
            received += 1
            if received == cut_after:
                await chunks.aclose()
                return "cut"
        assert text == expected[model]
        return "whole"

    async def all_of_them() -> list[str]:
        limits = httpx.Limits(max_connections=STREAMS, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=120) as client:
            return await asyncio.gather(*(one(client, index) for index in range(STREAMS)))

    outcomes = asyncio.run(all_of_them())
    assert outcomes.count("cut") == len(range(0, STREAMS, 3))
    assert outcomes.count("whole") == STREAMS - outcomes.count("cut")
    server.wait_idle()
    assert server.metric("switchyard_requests_total", outcome="disconnected") > 0
    for model in models:
        assert text_of(complete(server, model, max_tokens=TOKENS)) == expected[model]
