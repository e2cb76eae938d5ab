"""One choice of an answer, from its submission to its end."""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from time import monotonic

import msgspec

from server.api.generation.admission import Place
from server.api.generation.attempt import Attempt
from server.api.generation.failures import raise_failure
from server.api.generation.large_answers import apart, scored_entries
from server.api.generation.origin import fallback_cause, origin_of
from server.api.generation.pieces import ChoiceEvent, Ending, Opening, Piece
from server.api.generation.shared_prompt import SharedPrompt
from server.api.metrics.request_metrics import RequestRecord
from server.api.routing.model_names import Target
from server.api.routing.router import Routing
from server.engine.interface import Engine, Generation
from server.engine.messages import Failed, PromptScores, RequestEvent, Started, Tokens, TokenScore
from server.errors import EngineFailed


class Choice:
    """A generation, its place and its record: however it ends, the first is over, and the others are closed.

    `attempts` are made in order: the next one when the engine cannot apply the adapter of the one before it. All of
    them together have until `deadline`, on the monotonic clock.
    `scored` is where the choices of one prompt share its scored tokens.
    """

    def __init__(
        self,
        index: int,
        prompt: int,
        *,
        attempts: Sequence[Attempt],
        routing: Routing,
        engine: Engine,
        record: RequestRecord,
        place: Place,
        deadline: float | None = None,
        scored: SharedPrompt | None = None,
    ) -> None:
        self.index = index
        self.outcome = "failed"
        self.opening: Opening | None = None
        self._prompt = prompt
        self._attempts = list(attempts)
        self._routing = routing
        self._engine = engine
        self._record = record
        self._place = place
        self._deadline = deadline
        self._scored = scored
        self._passed: list[tuple[Target, Failed]] = []
        self._generation: Generation | None = None
        self._closed = False
        self._said: list[str] = []

    @property
    def attempt(self) -> Attempt:
        """The one that runs."""
        return self._attempts[len(self._passed)]

    @property
    def token_count(self) -> int:
        """Tokens generated so far."""
        return self.attempt.text.token_count

    @property
    def passed(self) -> Sequence[tuple[Target, Failed]]:
        """The targets before the one that runs, and why each could not be applied."""
        return self._passed

    @property
    def said(self) -> str:
        """The text so far, without the echo of the prompt; empty where no shadow is to be compared with it."""
        return "".join(self._said)

    def submit(self) -> None:
        """Hand the attempt to the engine, with what is left of the request's time.

        Raises:
            EngineUnavailable: the engine is not ready.
        """
        command = self.attempt.command
        if self._deadline is not None:
            command = msgspec.structs.replace(command, timeout=max(0.0, self._deadline - monotonic()))
        self._generation = self._engine.submit(command)

    def close(self, outcome: str) -> None:
        """End the choice, if it has not ended."""
        if not self._closed:
            self.outcome = outcome
            self._end()
            self._place.leave()
            self._record.end(outcome, self.token_count)

    def withdraw(self) -> None:
        """End the choice as one that was never asked for: nothing is counted."""
        self._end()
        self._place.withdraw()

    def _end(self) -> None:
        self._closed = True
        if self._generation is not None:
            self._generation.cancel()

    async def events(self) -> AsyncGenerator[ChoiceEvent]:
        """An opening, pieces, and an ending.

        Raises:
            AdapterUnavailable, DeadlineExceeded, EngineUnavailable, EngineFailed, InvalidRequest: it ended without one.
        """
        yield await self._start()
        text, scores = self.attempt.text, list[TokenScore | None]()
        begun = counted = False
        async for event in self._received():
            if not isinstance(event, Tokens) or event.finish_reason == "cancelled":
                if isinstance(event, PromptScores):
                    scores += event.scores
                self._raise_failure(event)
                continue
            if not begun:
                begun = True
                if (echo := await self._begin(scores)) is not None:
                    yield echo
            if not counted and event.token_ids:
                counted = True
                self._record.first_token()
            piece = text.push(event.token_ids, event.scores, last=event.finish_reason is not None)
            reason = event.finish_reason if text.stop is None else "stop"
            if reason is not None:
                self.close(reason)
            if piece is not None:
                if self._routing.shadows:
                    self._said.append(piece.text)
                yield piece
            if reason is not None:
                told = text.finish_reason(reason)
                yield Ending(self.index, told, text.stop, text.token_count, text.prompt)
                return
        raise EngineFailed("the engine ended the request without saying why")

    async def _begin(self, scores: Sequence[TokenScore | None]) -> Piece | None:
        """The piece that echoes the prompt."""
        attempt = self.attempt
        if self._scored is None:
            return attempt.text.begin(scores)
        assert self.opening is not None
        source = (attempt.target, self.opening.origin["digest"])
        if attempt.command.sampling.prompt_logprobs is None:
            return attempt.text.begin((), await self._scored.of(source))
        echo = await apart(partial(attempt.text.begin, scores), scored_entries(scores))
        self._scored.tell(source, attempt.text.prompt)
        return echo

    def _raise_failure(self, event: RequestEvent) -> None:
        """`raise_failure`, and count the deadlines among them."""
        if isinstance(event, Failed) and event.code == "deadline_exceeded":
            self._record.late()
        raise_failure(event)

    def _received(self) -> Generation:
        assert self._generation is not None, "a choice is submitted before it is read"
        return self._generation

    async def _start(self) -> Opening:
        """Wait until the adapter's fate is known, of one target after the other."""
        async for event in self._received():
            if isinstance(event, Started):
                origin = origin_of(self._routing, self.attempt.target, event, self._passed)
                self._record.started(fallback_cause(origin))
                self.opening = Opening(
                    index=self.index,
                    prompt=self._prompt,
                    prompt_ids=self.attempt.command.prompt,
                    cached_tokens=event.cached_tokens,
                    origin=origin,
                )
                return self.opening
            if isinstance(event, Failed) and event.code == "adapter_unavailable":
                if len(self._passed) + 1 < len(self._attempts):
                    self._passed.append((self.attempt.target, event))
                    self.submit()
                    return await self._start()
                if event.reason is not None:
                    self._record.refused(event.reason)
            self._raise_failure(event)
        raise EngineFailed("the engine ended the request without an answer")
