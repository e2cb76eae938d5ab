"""The requests of a soak: strict and lenient, whole and streamed, with deadlines, cut off, too large, too many."""

import asyncio
import json
import random
from typing import Any

import httpx

from tests.http.client import body
from tests.soak.ledger import Ledger

REQUEST_SECONDS = 90.0
"""A request that has not ended by then hangs."""

MAX_TOKENS = 24
BURST = 80


class Traffic:
    """`ask` sends one request of a random kind to `names`, whose popularity falls with their place (Zipf 1.0)."""

    def __init__(self, client: httpx.AsyncClient, ledger: Ledger, names: list[str], seed: int) -> None:
        self._client = client
        self._ledger = ledger
        self._names = names
        self._weights = [1 / place for place in range(1, len(names) + 1)]
        self._random = random.Random(seed)
        self.deadlines = False

    async def probe(self) -> None:
        """Learn whether this server knows deadlines."""
        answer = await self._client.post("/v1/completions", json=body("base", max_tokens=1, timeout=60))
        self.deadlines = answer.status_code == 200

    async def ask(self) -> None:
        """One request, to its end."""
        choose = self._random
        kinds = (self._whole, self._streamed, self._cut_off, self._by_digest, self._gone, self._refused, self._base)
        (kind,) = choose.choices(kinds, weights=(40, 20, 8, 8, 3, 3, 6))
        try:
            await asyncio.wait_for(kind(), REQUEST_SECONDS)
        except (TimeoutError, httpx.TimeoutException):
            self._ledger.wrong.append(f"a request did not end within {REQUEST_SECONDS:g} s")
        except httpx.HTTPError as error:
            self._ledger.wrong.append(f"a connection broke: {error!r}")

    async def burst(self) -> None:
        """More requests at once than the server has room for."""
        await asyncio.gather(*(self._send("base", self._fields("base") | {"max_tokens": 64}) for _ in range(BURST)))

    def _name(self) -> str:
        return self._random.choices(self._names, weights=self._weights)[0]

    def _fields(self, model: str) -> dict[str, Any]:
        choose = self._random
        fields = body(
            model,
            f"{choose.randrange(50)} " + "and so on " * choose.randrange(8),
            max_tokens=choose.randint(1, MAX_TOKENS),
        )
        if choose.random() < 0.4:
            del fields["fallback"]
        if self.deadlines and choose.random() < 0.15:
            fields["timeout"] = choose.choice((0.01, 0.2, 2.0))
        return fields

    async def _send(self, model: str, fields: dict[str, Any]) -> None:
        known_gone = model.partition("@")[0] in self._ledger.gone
        answer = await self._client.post("/v1/completions", json=fields)
        self._ledger.answered(model, answer, known_gone=known_gone)

    async def _whole(self) -> None:
        name = self._name()
        await self._send(name, self._fields(name))

    async def _base(self) -> None:
        await self._send("base", self._fields("base"))

    async def _by_digest(self) -> None:
        name = self._name()
        digest = self._random.choice(sorted(self._ledger.published[name]))
        await self._send(f"{name}@{digest}", self._fields(f"{name}@{digest}"))

    async def _gone(self) -> None:
        if self._ledger.gone:
            name = self._random.choice(sorted(self._ledger.gone))
            await self._send(name, self._fields(name))

    async def _streamed(self) -> None:
        name = self._name()
        await self._stream(name, self._fields(name), most_chunks=None)

    async def _cut_off(self) -> None:
        name = self._name()
        await self._stream(name, self._fields(name) | {"max_tokens": 100}, most_chunks=self._random.randint(0, 5))

    async def _stream(self, name: str, fields: dict[str, Any], most_chunks: int | None) -> None:
        """Read a stream to its end, or go away after some chunks."""
        async with self._client.stream("POST", "/v1/completions", json=fields | {"stream": True}) as response:
            if response.status_code != 200:
                await response.aread()
                self._ledger.answered(name, response, known_gone=False)
                return
            count = 0
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    return
                if not line.startswith("data: "):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    self._ledger.stream_failed(name, chunk["error"])
                    return
                if count == 0:
                    self._ledger.tell(name, chunk["switchyard"])
                count += 1
                if most_chunks is not None and count > most_chunks:
                    self._ledger.outcomes["went away"] += 1
                    return
        self._ledger.wrong.append(f"{name}: a stream ended without [DONE] and without an error")

    async def _refused(self) -> None:
        """Requests that no server should accept."""
        bad, status = self._random.choice(
            (
                (body("base", "x" * 2000, max_tokens=4), 400),
                (body("base", max_tokens=100_000), 400),
                (body("base", "x" * 100_000), 413),
                (body("base", unheard_of=1), 400),
                (body("no/such/name/at/all"), 400),
            )
        )
        answer = await self._client.post("/v1/completions", json=bad)
        self._ledger.outcomes[f"refused {answer.status_code}"] += 1
        self._ledger.must(
            # A full queue or a missing engine may be noticed first.
            answer.status_code in (status, 404, 429, 503),
            f"{str(bad)[:200]}: {answer.status_code} {answer.text[:300]}",
        )
