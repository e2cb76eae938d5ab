"""A server that speaks the streamed chat API from a script: good answers, and each way to be wrong.

Requests for the bare base are answered well and count for nothing.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

DIGESTS = {f"adapter-{index}": f"sha256:{index:064x}" for index in range(4)}


@dataclass
class FakeServer:
    """`faults` says, for the n-th request (from 0), what goes wrong with it.

    `most_at_once` is the largest number of streams that were open together. An adapter is found in the store at first
    and on the device from then on, unless `tells_residency` is off. Every prompt is written out with five more tokens.
    """

    faults: dict[int, str] = field(default_factory=dict)
    token_seconds: float = 0.0
    tells_residency: bool = True
    resident: dict[str, int] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    open_streams: int = 0
    most_at_once: int = 0

    def app(self) -> FastAPI:
        """The ASGI application."""
        app = FastAPI()
        app.get("/v1/models")(self.models)
        app.get("/metrics")(self.metrics)
        app.post("/v1/chat/completions", response_model=None)(self.chat)
        return app

    async def models(self) -> dict[str, Any]:
        cards = [{"id": name, "root": f"{name}@{digest}", "parent": "tiny"} for name, digest in DIGESTS.items()]
        return {"object": "list", "data": [{"id": "tiny", "root": "tiny", "parent": None}, *cards]}

    async def metrics(self) -> Response:
        hits, misses = sum(self.resident.values()) - len(self.resident), len(self.resident)
        lines = [
            f'switchyard_adapter_cache_hits_total{{tier="device"}} {hits}',
            f'switchyard_adapter_cache_misses_total{{tier="device"}} {misses}',
            f'switchyard_adapter_loads_total{{outcome="loaded"}} {misses}',
            f"switchyard_adapter_bytes {1000 * misses}",
            f'vllm:lora_requests_info{{running_lora_adapters="{",".join(self.resident)}"}} 1',
        ]
        return Response("\n".join(lines) + "\n", media_type="text/plain")

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.keys.add(request.headers.get("authorization"))
        if body["model"] == "base":
            return StreamingResponse(self.stream(body, None), media_type="text/event-stream")
        fault = self.faults.get(len(self.requests))
        self.requests.append(body)
        if fault == "refused":
            return JSONResponse({"error": {"code": "queue_full", "message": "full"}}, status_code=429)
        if fault == "crashed":
            return Response("Bad gateway", status_code=502)
        return StreamingResponse(self.stream(body, fault), media_type="text/event-stream")

    async def stream(self, body: dict[str, Any], fault: str | None) -> AsyncIterator[str]:
        self.open_streams += 1
        self.most_at_once = max(self.most_at_once, self.open_streams)
        try:
            async for event in self.events(body, fault):
                yield event
        finally:
            self.open_streams -= 1

    async def events(self, body: dict[str, Any], fault: str | None) -> AsyncIterator[str]:
        origin = {
            "adapter": body["model"],
            "digest": "sha256:other" if fault == "other version" else DIGESTS.get(body["model"]),
            "fallback": {"reason": "timeout", "detail": None} if fault == "fallback" else None,
            "cached_tokens": 0,
        }
        if self.tells_residency and body["model"] != "base":
            origin["residency"] = "device" if body["model"] in self.resident else "store"
        if body["model"] != "base":
            self.resident[body["model"]] = self.resident.get(body["model"], 0) + 1
        prompt_tokens = len(body["messages"][0]["content"].split()) + 5
        tokens = body["max_tokens"] - (1 if fault == "short" else 0)
        yield event({"choices": [{"delta": {"role": "assistant", "content": ""}}], "usage": None, "switchyard": origin})
        for number in range(tokens):
            await asyncio.sleep(self.token_seconds)
            if fault == "broken off" and number == 1:
                return
            if fault == "malformed" and number == 1:
                yield "data: {not JSON\n\n"
            if fault == "error in stream" and number == 1:
                yield event({"error": {"code": "engine_failed", "message": "gone"}})
                return
            yield event({"choices": [{"delta": {"content": f"w{number} "}}]})
        yield event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        yield event(
            {
                "choices": [],
                "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens},
                "switchyard": origin,
            }
        )
        yield "data: [DONE]\n\n"


def event(chunk: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(chunk)}\n\n"
