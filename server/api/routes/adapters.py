"""`/v1/adapters`: publish, list, show, delete, move aliases, retire and restore versions, take notes.

Verification and collection are no routes: they are for whoever has the store's disk, as `switchyard adapters verify`
and `gc`.
"""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from adapters_store import InvalidName, parse_adapter_name
from adapters_store.adapter_files import SOURCE_FILES
from adapters_store.names import LATEST, AdapterName, AdapterRef, check_slug
from adapters_store.task_references import tasks_that_name
from adapters_store.version_notes import VersionNotes
from server.api.context import Context, RequestContext
from server.api.json_response import json_response
from server.api.protocol.adapter_answers import (
    deletion_answer,
    entry_answer,
    list_answer,
    move_answer,
    publication_answer,
    removed_alias_answer,
    state_answer,
)
from server.api.protocol.adapter_requests import (
    NotesRequest,
    PromoteRequest,
    PublishRequest,
    RollbackRequest,
    UnaliasRequest,
    VersionRequest,
)
from server.api.publishing.hub_publication import fetch_from_hub
from server.api.publishing.upload import received_adapter
from server.api.query_parameters import only_declared_parameters
from server.api.request_body import is_json, read_json
from server.api.request_id import request_id
from server.api.routes.documented import takes

logger = logging.getLogger(__name__)
router = APIRouter(tags=["adapters"], dependencies=[Depends(only_declared_parameters)])

_UPLOADED = VersionNotes(source="upload")
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "schema": {
        "type": "object",
        "required": ["files"],
        "properties": {"files": _FILES | {"description": f"Parts with the file names {', '.join(SOURCE_FILES)}."}},
    }
}


@router.get("/v1/adapters")
async def list_adapters(
    context: RequestContext,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Adapters in order of their names, with the versions that aliases point to and the newest."""
    start = None if after is None else parse_adapter_name(after)
    return json_response(list_answer(await asyncio.to_thread(context.store.page, limit, start)))


@router.put(
    "/v1/adapters/{name:path}",
    **takes(PublishRequest, example={"source": "hub:OWNER/NAME@REVISION"}, beside={"multipart/form-data": _UPLOAD}),
)
async def publish_adapter(
    name: str,
    request: Request,
    context: RequestContext,
    alias: Annotated[str, Query()] = LATEST,
    expect: Annotated[str | None, Query()] = None,
) -> Response:
    """Publish the uploaded files, or an adapter on a hub, as a version: 201, or 200 where the name had it.

    Files come as multipart/form-data, a place on a hub as JSON: `{"source": "hub:OWNER/NAME@REVISION"}`.
    """
    adapter = _publishable(name, alias)
    base = context.served_model().description
    place = context.uploads.enter()
    try:
        if is_json(request):
            asked = PublishRequest.parse(await read_json(request, context.settings.max_body_bytes))
            publication = await fetch_from_hub(context, adapter, asked.source, base=base, alias=alias, expect=expect)
        else:
            folder, limit = context.store.root / "tmp", context.settings.max_upload_bytes
            async with received_adapter(request, folder, limit) as directory, context.publishing:
                publication = await context.write(
                    context.store.publish, adapter, directory, base=base, alias=alias, expect=expect, notes=_UPLOADED
                )
    finally:
        place.leave()
    _log_change("published", adapter, alias, publication.version.digest)
    if not publication.created:
        # Its files may just have been repaired: what the engine remembers of a failure is out of date.
        context.engine.unload(publication.version.digest)
    return json_response(publication_answer(publication), status=201 if publication.created else 200)


@router.get("/v1/adapters/{name:path}")
async def show_adapter(name: str, context: RequestContext, history: Annotated[bool, Query()] = False) -> Response:
    """One adapter with its aliases and versions; with `history` also where its aliases have been."""
    entry = await asyncio.to_thread(context.store.get, parse_adapter_name(name), history=history)
    return json_response(entry_answer(entry))


@router.delete("/v1/adapters/{name:path}")
async def delete_adapter(name: str, context: RequestContext) -> Response:
    """Remove an adapter from the store and from the device; requests that run on it end undisturbed."""
    entry = await context.write(context.store.delete, parse_adapter_name(name))
    digests = ", ".join(version.digest for version in entry.versions)
    _log_change("deleted", entry.name, ", ".join(entry.aliases) or "none", digests)
    await context.preloader.forget_pins(entry.name)
    await unload_unused(context, {version.digest for version in entry.versions})
    return json_response(deletion_answer(entry, await context.write(tasks_that_name, entry.name, context.tasks)))


@router.post("/v1/adapters/{name:path}/promote", **takes(PromoteRequest))
async def promote_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Move an alias to a version: the one with `digest`, or the one that the alias `from` points to."""
    adapter = parse_adapter_name(name)
    asked = PromoteRequest.parse(await read_json(request, context.settings.max_body_bytes))
    ref = AdapterRef(adapter, digest=asked.digest) if asked.digest else AdapterRef(adapter, alias=asked.source)
    move = await context.write(context.store.promote, ref, asked.alias, expect=asked.expect)
    _log_change("promoted", adapter, move.alias, move.digest)
    return json_response(move_answer(move))


@router.post("/v1/adapters/{name:path}/rollback", **takes(RollbackRequest))
async def rollback_adapter(name: str, request: Request, context: RequestContext) -> Response:
    """Move an alias back to where it was before its last move."""
    adapter = parse_adapter_name(name)
    asked = RollbackRequest.parse(await read_json(request, context.settings.max_body_bytes))
    move = await context.write(context.store.rollback, adapter, asked.alias, expect=asked.expect)
    _log_change("rolled back", adapter, move.alias, move.digest)
    return json_response(move_answer(move))


@router.post("/v1/adapters/{name:path}/unalias", **takes(UnaliasRequest))
async def remove_alias(name: str, request: Request, context: RequestContext) -> Response:
    """Remove an alias with its history; its version stays."""
    adapter = parse_adapter_name(name)
    asked = UnaliasRequest.parse(await read_json(request, context.settings.max_body_bytes))
    check_slug(asked.alias, "alias")
    removed = await context.write(context.store.unalias, adapter, asked.alias)
    _log_change("removed an alias of", adapter, removed.alias, removed.digest)
    return json_response(removed_alias_answer(removed))


@router.post("/v1/adapters/{name:path}/retire", **takes(VersionRequest))
async def retire_version(name: str, request: Request, context: RequestContext) -> Response:
    """Let a version without an alias resolve no more; requests that run on it end undisturbed."""
    adapter, digest = await _version_asked(name, request, context)
    version = await context.write(context.store.retire, adapter, digest)
    _log_change("retired", adapter, "none", digest)
    await unload_unused(context, {digest})
    return json_response(state_answer(version))


@router.post("/v1/adapters/{name:path}/restore", **takes(VersionRequest))
async def restore_version(name: str, request: Request, context: RequestContext) -> Response:
    """Let a retired version resolve again."""
    adapter, digest = await _version_asked(name, request, context)
    version = await context.write(context.store.restore, adapter, digest)
    _log_change("restored", adapter, "none", digest)
    return json_response(state_answer(version))


@router.post("/v1/adapters/{name:path}/notes", **takes(NotesRequest))
async def note_version(name: str, request: Request, context: RequestContext) -> Response:
    """Renew what is noted of a version: description, tags, evaluation, training job, parents."""
    adapter = parse_adapter_name(name)
    asked = NotesRequest.parse(await read_json(request, context.settings.max_body_bytes))
    ref = AdapterRef(adapter, digest=asked.digest) if asked.digest else AdapterRef(adapter, alias=asked.source)
    version = await context.write(context.store.annotate, ref, asked.notes(), remove_tags=asked.remove_tags)
    return json_response(state_answer(version))


async def _version_asked(name: str, request: Request, context: Context) -> tuple[AdapterName, str]:
    adapter = parse_adapter_name(name)
    asked = VersionRequest.parse(await read_json(request, context.settings.max_body_bytes))
    # The reference checks the digest's form.
    AdapterRef(adapter, digest=asked.digest)
    return adapter, asked.digest


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


async def unload_unused(context: Context, digests: set[str]) -> None:
    """Free the device of versions that resolve under no name."""
    unnamed = await asyncio.to_thread(context.store.unnamed, digests)
    if context.is_ready:
        for digest in sorted(unnamed):
            context.engine.unload(digest)
