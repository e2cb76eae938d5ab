"""`/v1/adapters`: publish, list, show, delete, promote, roll back."""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from adapters_store import InvalidName, parse_adapter_name
from adapters_store.names import LATEST, AdapterName, AdapterRef, check_slug
from server.api.context import Context, RequestContext
from server.api.json_response import json_response
from server.api.protocol.adapter_answers import (
    deletion_answer,
    entry_answer,
    list_answer,
    move_answer,
    publication_answer,
)
from server.api.protocol.adapter_requests import PromoteRequest, RollbackRequest
from server.api.request_body import read_json
from server.api.request_id import request_id
from server.api.upload import received_adapter

logger = logging.getLogger(__name__)
router = APIRouter(tags=["adapters"])


@router.get("/v1/adapters")
async def list_adapters(context: RequestContext) -> Response:
    """Every adapter with its aliases and versions."""
    entries = await asyncio.to_thread(context.store.list)
    return json_response(list_answer(entries))


@router.put("/v1/adapters/{name:path}")
async def publish_adapter(
    name: str, request: Request, context: RequestContext, alias: Annotated[str, Query()] = LATEST
) -> Response:
    """Publish the uploaded files as a version: 201, or 200 where the name had this very content."""
    adapter = _publishable(name, alias)
    base = context.served_model().description
    place = context.uploads.enter()
    try:
        folder, limit = context.store.root / "tmp", context.settings.max_upload_bytes
        async with received_adapter(request, folder, limit) as directory, context.publishing:
            publication = await context.write(context.store.publish, adapter, directory, base=base, alias=alias)
    finally:
        place.leave()
    _log_change("published", adapter, alias, publication.version.digest)
    return json_response(publication_answer(publication), status=201 if publication.created else 200)


@router.get("/v1/adapters/{name:path}")
async def show_adapter(name: str, context: RequestContext) -> Response:
    """One adapter with its aliases and versions."""
    entry = await asyncio.to_thread(context.store.get, parse_adapter_name(name))
    return json_response(entry_answer(entry))


@router.delete("/v1/adapters/{name:path}")
async def delete_adapter(name: str, context: RequestContext) -> Response:
    """Remove an adapter from the store and from the device; requests that run on it end undisturbed."""
    entry = await context.write(context.store.delete, parse_adapter_name(name))
    digests = ", ".join(version.digest for version in entry.versions)
    _log_change("deleted", entry.name, ", ".join(entry.aliases) or "none", digests)
    await _unload_unused(context, {version.digest for version in entry.versions})
    return json_response(deletion_answer(entry))


@router.post("/v1/adapters/{name:path}/promote")
async def promote_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Move an alias to a version: the one with `digest`, or the one that the alias `from` points to."""
    adapter = parse_adapter_name(name)
    asked = PromoteRequest.parse(await read_json(request, context.settings.max_body_bytes))
    ref = AdapterRef(adapter, digest=asked.digest) if asked.digest else AdapterRef(adapter, alias=asked.source)
    move = await context.write(context.store.promote, ref, asked.alias, expect=asked.expect)
    _log_change("promoted", adapter, move.alias, move.digest)
    return json_response(move_answer(move))


@router.post("/v1/adapters/{name:path}/rollback")
async def rollback_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Move an alias back to where it was before its last move."""
    adapter = parse_adapter_name(name)
    asked = RollbackRequest.parse(await read_json(request, context.settings.max_body_bytes))
    move = await context.write(context.store.rollback, adapter, asked.alias)
    _log_change("rolled back", adapter, move.alias, move.digest)
    return json_response(move_answer(move))


def _log_change(change: str, adapter: AdapterName, aliases: str, digests: str) -> None:
    """One line for each change that the store has made."""
    logger.info("request %s: %s %s, alias %s: %s", request_id.get(), change, adapter, aliases, digests)


def _publishable(name: str, alias: str) -> AdapterName:
    """The name to publish under; refused before the body is read, not after gigabytes of it.

    Raises:
        InvalidName: the name or the alias is outside the grammar, or the name is reserved.
    """
    adapter = parse_adapter_name(name)
    if adapter.is_reserved:
        raise InvalidName(f"{name!r} cannot be published: `{adapter.name}` is a reserved name; choose another")
    check_slug(alias, "alias")
    return adapter


async def _unload_unused(context: Context, digests: set[str]) -> None:
    """Free the device of versions that no other name has."""
    entries = await asyncio.to_thread(context.store.list)
    used = {version.digest for entry in entries for version in entry.versions}
    if context.is_ready:
        for digest in digests - used:
            context.engine.unload(digest)
