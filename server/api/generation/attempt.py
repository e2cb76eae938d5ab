"""What one target is asked for one choice of an order."""

import uuid
from dataclasses import dataclass

from server.api.generation.choice_text import ChoiceText
from server.api.generation.order import Order, Plan
from server.api.routing.model_names import Target
from server.engine.messages import FallbackPolicy, Submit


@dataclass(frozen=True)
class Attempt:
    """What one target is asked, and how its tokens are read."""

    target: Target
    command: Submit
    text: ChoiceText


def attempt_of(order: Order, plan: Plan, index: int, fallback: FallbackPolicy) -> Attempt:
    """Choice `index` of an order, as one of its plans has it."""
    encoded = plan.prompts[order.prompt_of(index)].encoded
    reader = order.reader() if order.reader is not None else None
    text = ChoiceText(index, encoded, plan.text, plan.tokenization, reader)
    return Attempt(plan.target, command_of(order, plan, index, fallback), text)


def command_of(order: Order, plan: Plan, index: int, fallback: FallbackPolicy) -> Submit:
    """What the engine is told of choice `index` of an order, as one of its plans has it; with a new request id."""
    return Submit(
        request_id=uuid.uuid4().hex,
        prompt=plan.prompts[order.prompt_of(index)].encoded.ids,
        sampling=order.sampling_of(plan, index),
        adapter=plan.target.as_engine_version(),
        fallback=fallback,
        tenant=plan.target.tenant,
        priority=order.priority,
    )
