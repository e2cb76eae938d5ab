"""Sequences without an engine around them."""

from collections.abc import Sequence as Seq
from typing import Any

from server.engine.messages import AdapterVersion, SamplingParams, Submit
from server.engine.sequence import Sequence


def adapter(name: str) -> AdapterVersion:
    """A version that nobody loads; its digest follows from its name."""
    return AdapterVersion(name=name, digest=f"sha256:{name}", directory=f"/nowhere/{name}")


def sequence(
    prompt: Seq[int] = (1,), name: str | None = None, *, arrived: float = 0.0, request_id: str = "r", **sampling: Any
) -> Sequence:
    """A sequence for the base, or for the adapter `name`; greedy and of up to 8 tokens unless said otherwise."""
    params = {"max_tokens": 8, "temperature": 0.0} | sampling
    request = Submit(
        request_id=request_id,
        prompt=list(prompt),
        adapter=adapter(name) if name is not None else None,
        sampling=SamplingParams(**params),
    )
    return Sequence(request, arrived)
