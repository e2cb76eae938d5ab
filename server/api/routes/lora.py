"""Adding and removing adapters at run time, as clients of vLLM and SGLang ask for it."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from adapters_store.names import AdapterRef
from server.api.context import RequestContext
from server.api.json_response import json_response
from server.api.protocol.lora_requests import (
    LoadLoraRequest,
    SglangLoadRequest,
    SglangUnloadRequest,
    UnloadLoraRequest,
)
from server.api.publishing.lora_registration import check_base, register, unregister
from server.api.request_body import read_json
from server.api.routes.documented import takes
from server.errors import InvalidRequest, SwitchyardError

router = APIRouter(tags=["lora"])


@router.post(
    "/v1/load_lora_adapter",
    response_class=PlainTextResponse,
    **takes(LoadLoraRequest, example={"lora_name": "support-copy", "lora_path": "support", "load_inplace": True}),
)
async def load_lora_adapter(request: Request, context: RequestContext) -> Response:
    """Publish a directory, or a version of the store, under a name (vLLM)."""
    asked = LoadLoraRequest.parse(await read_json(request, context.settings.max_body_bytes))
    if not asked.lora_name or not asked.lora_path:
        raise InvalidRequest(
            "Both 'lora_name' and 'lora_path' must be provided.",
            param="lora_path" if asked.lora_name else "lora_name",
        )
    check_base(context.served_model(), asked.base_model_name)
    await register(context, asked.lora_name, asked.lora_path, replace=asked.load_inplace)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")


@router.post(
    "/v1/unload_lora_adapter",
    response_class=PlainTextResponse,
    **takes(UnloadLoraRequest, example={"lora_name": "support-copy"}),
)
async def unload_lora_adapter(request: Request, context: RequestContext) -> Response:
    """Remove an adapter by name (vLLM)."""
    asked = UnloadLoraRequest.parse(await read_json(request, context.settings.max_body_bytes))
    if not asked.lora_name:
        raise InvalidRequest("'lora_name' needs to be provided to unload a LoRA adapter.", param="lora_name")
    await unregister(context, asked.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")


@router.post(
    "/load_lora_adapter",
    **takes(SglangLoadRequest, example={"lora_name": "support-copy", "lora_path": "support", "pinned": False}),
)
async def load_lora_adapter_for_sglang(request: Request, context: RequestContext) -> Response:
    """Publish a directory, or a version of the store, under a name (SGLang)."""
    try:
        asked = SglangLoadRequest.parse(await read_json(request, context.settings.max_body_bytes))
        publication = await register(context, asked.lora_name, asked.lora_path, replace=False)
        if asked.pinned:
            await context.preloader.pin(AdapterRef(publication.version.name), pinned=True)
    except SwitchyardError as error:
        return _failure(error)
    reference = {
        "lora_id": publication.version.digest,
        "lora_name": asked.lora_name,
        "lora_path": asked.lora_path,
        "pinned": asked.pinned,
    }
    return _success({asked.lora_name: reference})


@router.post("/unload_lora_adapter", **takes(SglangUnloadRequest, example={"lora_name": "support-copy"}))
async def unload_lora_adapter_for_sglang(request: Request, context: RequestContext) -> Response:
    """Remove an adapter by name (SGLang)."""
    try:
        asked = SglangUnloadRequest.parse(await read_json(request, context.settings.max_body_bytes))
        await unregister(context, asked.lora_name)
    except SwitchyardError as error:
        return _failure(error)
    return _success({})


def _success(adapters: dict[str, dict[str, Any]]) -> Response:
    return json_response({"success": True, "error_message": None, "loaded_adapters": adapters})


def _failure(error: SwitchyardError) -> Response:
    answer = {"success": False, "error_message": error.message, "loaded_adapters": None}
    return json_response(answer, status=error.status)
