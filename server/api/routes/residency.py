"""What is resident and used: the usage report, and pins at run time."""

import asyncio
import sys
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from adapters_store import parse_adapter_name
from adapters_store.names import AdapterRef
from server.api.context import Context, RequestContext
from server.api.json_response import json_response
from server.api.preloading.operator_wishes import traffic_key
from server.api.preloading.usage_report import UsageReport, by_name
from server.api.protocol.adapter_requests import PinRequest
from server.api.query_parameters import only_declared_parameters
from server.api.request_body import read_json
from server.api.routes.documented import takes
from server.errors import InvalidRequest

router = APIRouter(tags=["adapters"], dependencies=[Depends(only_declared_parameters)])


@router.get("/v1/adapter_usage")
async def show_usage(
    context: RequestContext,
    unused_for: Annotated[float | None, Query(ge=0, le=36_500)] = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 100,
) -> Response:
    """Adapters by how long nobody has asked for them, and what another device budget would hit.

    `unused_for` leaves out those that were asked for, or published, in so many days.
    """
    preloader, now = context.preloader, context.preloader.now()
    usages, state, sizing = (
        preloader.model.usage(now),
        context.metrics.engine.state,
        context.metrics.engine.sizing.now(),
    )

    def report() -> Response:
        found = UsageReport(now, preloader.model.started, by_name(usages), state, sizing, preloader.wishes.wanted(now))
        entries = context.store.page(sys.maxsize).entries
        return json_response(found.answer(entries, unused_days=unused_for, limit=limit))

    return await asyncio.to_thread(report)


@router.post("/v1/adapters/{name:path}/pin", **takes(PinRequest))
async def pin_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Keep an adapter on the device, whatever the traffic says; a restart keeps the pin."""
    return await _pin(name, request, context, pinned=True)


@router.post("/v1/adapters/{name:path}/unpin", **takes(PinRequest))
async def unpin_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Take a pin back; one that the preload plan has stays."""
    return await _pin(name, request, context, pinned=False)


async def _pin(name: str, request: Request, context: Context, *, pinned: bool) -> Response:
    adapter = parse_adapter_name(name)
    asked = PinRequest.parse(await read_json(request, context.settings.max_body_bytes))
    ref = AdapterRef(adapter, digest=asked.digest) if asked.digest else AdapterRef(adapter, alias=asked.alias)
    if ref.is_base:
        raise InvalidRequest("the base is always resident and takes no pin: name an adapter")
    if pinned:
        await asyncio.to_thread(context.store.resolve, ref)
    await context.preloader.pin(ref, pinned=pinned)
    pins = list(context.preloader.wishes.pins)
    return json_response({"id": traffic_key(ref), "object": "adapter.pin", "pinned": pinned, "pins": pins})
