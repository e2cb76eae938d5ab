"""What is left to do for a task when a request's answer is over: count what was passed over, and mirror it."""

import dataclasses
from collections.abc import Sequence

import msgspec

from server.api.generation.attempt import Attempt, attempt_of
from server.api.generation.choice import Choice
from server.api.generation.choice_text import TextOptions
from server.api.generation.order import Order, Plan
from server.api.metrics.task_metrics import TaskMetrics
from server.api.routing.model_names import Target
from server.api.routing.shadowing import RequestCopy, Shadowing


def finish_task(order: Order, choices: Sequence[Choice], metrics: TaskMetrics, shadowing: Shadowing) -> None:
    """Count the targets that a task's choices passed over, and offer copies of the first choice to the shadows.

    An answer that failed, or that its client did not wait for, is not mirrored.
    """
    routing = order.routing
    if routing.task is None or routing.choice is None:
        return
    for choice in choices:
        for _, failed in choice.passed:
            metrics.passed_over(routing.task, failed.reason or failed.code)
    first = choices[0]
    if order.plan is None or first.outcome not in ("stop", "length"):
        return
    sampling = first.attempt.command.sampling
    answer = first.said if sampling.temperature == 0 or sampling.seed is not None else None
    for name, target in zip(routing.choice.shadows, routing.shadows, strict=True):
        shadowing.offer(RequestCopy(routing.task, name, target, _Preparation(order, target), answer))


@dataclasses.dataclass(frozen=True)
class _Preparation:
    """Writes the first choice of an order as a shadow wants it."""

    order: Order
    target: Target

    async def __call__(self) -> Attempt:
        assert self.order.plan is not None
        (plan,) = await self.order.plan([self.target])
        return attempt_of(dataclasses.replace(self.order, reader=None), _without_details(plan), 0, "error")


def _without_details(plan: Plan) -> Plan:
    """A plan without scores and echo, which nobody will see."""
    prompts = [
        dataclasses.replace(
            prompt, sampling=msgspec.structs.replace(prompt.sampling, logprobs=None, prompt_logprobs=None)
        )
        for prompt in plan.prompts
    ]
    text = TextOptions(
        stops=plan.text.stops,
        include_stop=plan.text.include_stop,
        min_tokens=plan.text.min_tokens,
        skip_special_tokens=plan.text.skip_special_tokens,
    )
    return dataclasses.replace(plan, prompts=prompts, text=text)
