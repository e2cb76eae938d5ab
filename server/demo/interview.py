"""Questions put to the base and to adapters through the `openai` client, all at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import openai

from server.demo.dates import question

__all__ = ["BARE", "Answer", "Inquiry", "interview"]

# The base without an adapter, as a model name and as the digest header of its answers.
BARE = "base"

_ANSWER_TOKENS = 24
# Fewer than the server's queue holds, so that none is turned away.
_AT_ONCE = 256
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Inquiry:
    """One question to one model: an adapter's name, or `base`."""

    model: str
    day: date


@dataclass(frozen=True)
class Answer:
    """What came back. `digest` is of the adapter version that answered, None for the base.

    `failure` says what went wrong, None for an answer that came from where it should.
    """

    inquiry: Inquiry
    text: str
    digest: str | None
    failure: str | None = None


async def interview(
    url: str,
    inquiries: Sequence[Inquiry],
    *,
    digests: Mapping[str, str],
    api_key: str | None,
    on_answer: Callable[[], None],
) -> list[Answer]:
    """Send all inquiries concurrently and return the answers in the same order.

    `digests` gives the version that each adapter's answers must come from.
    """
    limit = asyncio.Semaphore(_AT_ONCE)
    # Proxies of the environment are for other hosts than this one.
    transport = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=api_key or "none", timeout=_TIMEOUT_SECONDS, http_client=transport
    ) as client:

        async def ask(inquiry: Inquiry) -> Answer:
            async with limit:
                answer = await _ask(client, inquiry, digests.get(inquiry.model))
            on_answer()
            return answer

        return list(await asyncio.gather(*map(ask, inquiries)))


async def _ask(client: openai.AsyncOpenAI, inquiry: Inquiry, expected: str | None) -> Answer:
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=inquiry.model,
            messages=[{"role": "user", "content": question(inquiry.day)}],
            max_tokens=_ANSWER_TOKENS,
            temperature=0,
        )
        completion = raw.parse()
    except openai.OpenAIError as error:
        return Answer(inquiry, "", None, failure=f"{type(error).__name__}: {error}")
    origin: dict[str, Any] = (completion.model_extra or {}).get("switchyard") or {}
    digest = origin.get("digest")
    return Answer(
        inquiry,
        completion.choices[0].message.content or "",
        digest,
        failure=_wrong_origin(origin, raw.headers.get("x-adapter-digest"), expected),
    )


def _wrong_origin(origin: Mapping[str, Any], header: str | None, expected: str | None) -> str | None:
    """Why an answer is not from the expected version, by its body and by its header; None where it is."""
    if fallback := origin.get("fallback"):
        return f"the base answered in the adapter's place: {fallback.get('reason')}"
    if "digest" not in origin or origin["digest"] != expected:
        return f"the body names the digest {origin.get('digest')}, expected {expected}"
    if header != (expected or BARE):
        return f"the header names the digest {header}, expected {expected or BARE}"
    return None
