"""`/v1/models`: the base and every adapter, as OpenAI's clients list them."""

import asyncio
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from adapters_store import Version
from adapters_store.names import LATEST
from server.api.context import RequestContext, ServedModel
from server.api.json_response import json_response

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(context: RequestContext) -> Response:
    """Cards of the base and of every adapter's latest version."""
    model = context.served_model()
    entries = await asyncio.to_thread(context.store.list)
    cards = [_base_card(model, model.name)]
    for entry in entries:
        if not entry.versions:  # all were retired
            continue
        digest = entry.aliases.get(LATEST)
        version = next((version for version in entry.versions if version.digest == digest), entry.versions[-1])
        cards.append(_adapter_card(model, str(entry.name), version))
    return json_response({"object": "list", "data": cards})


@router.get("/v1/models/{name:path}")
async def show_model(name: str, context: RequestContext) -> Response:
    """The card of whatever `model` may be in a request: the base, an adapter, an alias or a digest of one."""
    model = context.served_model()
    target = await model.names.resolve(name)
    card = _base_card(model, name) if target.version is None else _adapter_card(model, name, target.version)
    return json_response(card)


def _base_card(model: ServedModel, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(model.ready_at),
        "owned_by": "switchyard",
        "root": model.name,
        "parent": None,
        "digest": None,
        "max_model_len": model.info.max_model_len,
    }


def _adapter_card(model: ServedModel, name: str, version: Version) -> dict[str, Any]:
    """`root` is the immutable name of the version that answers to `id` now."""
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(version.created).timestamp()),
        "owned_by": version.name.tenant or "switchyard",
        "root": f"{version.name}@{version.digest}",
        "parent": model.name,
        "digest": version.digest,
        "max_model_len": model.info.max_model_len,
    }
