"""`/health`, `/ping`, `/ready`, `/version` and `/metrics`."""

from fastapi import APIRouter, Request, Response

from server.api.context import RequestContext
from server.api.json_response import json_response
from server.api.release import release

router = APIRouter(tags=["operations"])


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(context: RequestContext) -> Response:
    """200 while the process is alive and has not given its engine up; for restarting a dead server."""
    if context.failure is not None:
        return json_response({"status": "failed"}, status=503)
    return json_response({"status": "ok"})


@router.head("/ping", include_in_schema=False)
@router.get("/ping")
async def ping(context: RequestContext) -> Response:
    """The same as `/health`, under the name that vLLM and LoRAX have for it."""
    return await health(context)


@router.head("/ready", include_in_schema=False)
@router.get("/ready")
async def ready(context: RequestContext) -> Response:
    """200 while inference requests are taken; for sending traffic here or elsewhere."""
    if context.is_ready:
        return json_response({"status": "ready"})
    status = "failed" if context.failure is not None else "starting" if context.model is None else context.engine.status
    return json_response({"status": status}, status=503, headers={"retry-after": "5"})


@router.get("/version")
async def show_version() -> Response:
    """The version of the server."""
    return json_response({"version": release()})


@router.get("/metrics")
async def metrics(request: Request, context: RequestContext) -> Response:
    """All metrics, in the Prometheus or OpenMetrics text format."""
    body, content_type = context.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
