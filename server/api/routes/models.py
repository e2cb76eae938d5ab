"""`/v1/models`: the base, every adapter and every task, as OpenAI's clients list them."""

import asyncio
from datetime import datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Response

from adapters_store import AdapterEntry, Version
from adapters_store.names import LATEST, TASK_PREFIX, TaskName
from adapters_store.task_document import TaskDocument
from server.api.context import RequestContext, ServedModel
from server.api.json_response import json_response

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(context: RequestContext) -> Response:
    """Cards of the base, of every adapter (by an alias where it has no `latest`), and of every task."""
    model = context.served_model()
    entries = await asyncio.to_thread(context.store.list)
    tasks = await asyncio.to_thread(context.tasks.list)
    cards = [_base_card(model, model.name)]
    for entry in entries:
        cards += [_adapter_card(model, name, version) for name, version in _names_of(entry)]
    cards += [_task_card(model, task) for task in tasks]
    return json_response({"object": "list", "data": cards})


@router.get("/v1/models/{name:path}")
async def show_model(name: str, context: RequestContext) -> Response:
    """The card of whatever `model` may be in a request: the base, an adapter, an alias or a digest of one, a task."""
    model = context.served_model()
    if name.startswith(TASK_PREFIX):
        task = await asyncio.to_thread(context.tasks.get, TaskName(name.removeprefix(TASK_PREFIX)))
        return json_response(_task_card(model, task))
    target = await model.names.resolve(name)
    card = _base_card(model, name) if target.version is None else _adapter_card(model, name, target.version)
    return json_response(card)


def _names_of(entry: AdapterEntry) -> list[tuple[str, Version]]:
    """What a request may ask for: the plain name, or, where nothing is `latest`, the name with each alias it has.

    One without any alias has its newest version by digest; one whose versions were all retired has nothing.
    """
    by_digest = {version.digest: version for version in entry.versions}
    if LATEST in entry.aliases:
        return [(str(entry.name), by_digest[entry.aliases[LATEST]])]
    aliased = [(f"{entry.name}@{alias}", by_digest[digest]) for alias, digest in entry.aliases.items()]
    return aliased or [(f"{entry.name}@{version.digest}", version) for version in entry.versions[-1:]]


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
        "prompting": None,
    }


def _adapter_card(model: ServedModel, name: str, version: Version) -> dict[str, Any]:
    """`root` is the immutable name of the version that answers to `id` now; `prompting` is what it brings along."""
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(version.created).timestamp()),
        "owned_by": version.name.tenant or "switchyard",
        "root": f"{version.name}@{version.digest}",
        "parent": model.name,
        "digest": version.digest,
        "max_model_len": model.info.max_model_len,
        "prompting": msgspec.to_builtins(version.metadata.prompting),
    }


def _task_card(model: ServedModel, task: TaskDocument) -> dict[str, Any]:
    """A task has no digest of its own: its rule says, request by request, which adapter answers."""
    return {
        "id": str(task.task_name),
        "object": "model",
        "created": int(datetime.fromisoformat(task.created).timestamp()),
        "owned_by": "switchyard",
        "root": str(task.task_name),
        "parent": model.name,
        "digest": None,
        "max_model_len": model.info.max_model_len,
    }
