"""`/v1/tasks`: set, list, show, roll back and delete task routes."""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from adapters_store.names import TaskName
from adapters_store.task_document import TaskDocument
from adapters_store.task_references import check_references, missing_references
from adapters_store.task_rule import parse_rule
from server.api.context import RequestContext
from server.api.json_response import json_response
from server.api.protocol.task_answers import change_answer, task_answer, task_deletion_answer, tasks_answer
from server.api.protocol.task_requests import EXAMPLES, TaskRollbackRequest, rule_schema
from server.api.query_parameters import only_declared_parameters
from server.api.request_body import read_json
from server.api.request_id import request_id
from server.api.routes.documented import takes

logger = logging.getLogger(__name__)
router = APIRouter(tags=["tasks"], dependencies=[Depends(only_declared_parameters)])

Expect = Annotated[int | None, Query(ge=0)]


@router.get("/v1/tasks")
async def list_tasks(context: RequestContext) -> Response:
    """Every task route with its rule and revisions."""
    return json_response(tasks_answer(await asyncio.to_thread(context.tasks.list)))


@router.put("/v1/tasks/{name}", **takes(rule_schema(), examples=EXAMPLES))
async def set_task(
    name: str,
    request: Request,
    context: RequestContext,
    expect: Expect = None,
    allow_unpublished: Annotated[bool, Query()] = False,
) -> Response:
    """Put a rule in force for a task: 201 where the task is new, else 200.

    `expect` is the revision in force (0: there is no such task); 409 when that is not so.
    """
    task = TaskName(name)
    rule = parse_rule(await read_json(request, context.settings.max_body_bytes))
    if not allow_unpublished:
        await asyncio.to_thread(check_references, rule, context.store)
    change = await context.write(context.tasks.set, task, rule, expect=expect)
    _log_change("set", change.after)
    warnings = await asyncio.to_thread(missing_references, rule, context.store)
    return json_response(change_answer(change.after, warnings), status=201 if change.created else 200)


@router.get("/v1/tasks/{name}")
async def show_task(name: str, context: RequestContext) -> Response:
    """One task route with its rule and revisions, oldest first."""
    return json_response(task_answer(await asyncio.to_thread(context.tasks.get, TaskName(name))))


@router.delete("/v1/tasks/{name}")
async def delete_task(name: str, context: RequestContext, expect: Expect = None) -> Response:
    """Remove a task route with its history; its adapters stay."""
    document = await context.write(context.tasks.delete, TaskName(name), expect=expect)
    _log_change("deleted", document)
    return json_response(task_deletion_answer(document))


@router.post(
    "/v1/tasks/{name}/rollback",
    **takes(TaskRollbackRequest, examples={"the rule before": {}, "that of revision 1": {"to": 1}}),
)
async def rollback_task(name: str, request: Request, context: RequestContext) -> Response:
    """Put the rule before the last change in force again, or that of another revision."""
    task = TaskName(name)
    asked = TaskRollbackRequest.parse(await read_json(request, context.settings.max_body_bytes))
    document = await context.write(context.tasks.rollback, task, to=asked.to, expect=asked.expect)
    _log_change("rolled back", document)
    warnings = await asyncio.to_thread(missing_references, document.rule, context.store)
    return json_response(change_answer(document, warnings))


def _log_change(change: str, document: TaskDocument) -> None:
    arms = ", ".join(f"{arm} ({arm.weight:g})" for arm in document.rule.arms)
    logger.info(
        "request %s: %s task %s, revision %d: %s",
        request_id.get(),
        change,
        document.name,
        document.current.number,
        arms,
    )
