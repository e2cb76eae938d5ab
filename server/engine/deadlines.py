"""Which requests can no longer be answered in their time."""

from collections.abc import Iterable, Iterator

from server.engine.batch import Batch
from server.engine.messages import Failed
from server.engine.sequence import Sequence

_ADVICE = "give it more time, ask for fewer tokens, or send it again when the server has less to do"

_ENOUGH_STEPS = 3


class Deadlines:
    """Says which sequences are late, or are certain to be.

    A sequence without a row is taken to be late when the fastest step of one row and one token that this engine has
    run, once for each chunk of its prompt, would end past its deadline. Rows, blocks and its adapter are taken to be
    free at once, and all of a prompt that may be cached to be cached. No step computes less than such a one, so only an
    engine that has become faster since, or decoded nothing but long contexts alone, drops what could just have been in
    time. Until it has run a few, since the first ones are slow, nothing is dropped before its deadline.
    """

    def __init__(self, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._small_steps = 0
        self._fastest_step = float("inf")

    def ran(self, batch: Batch, seconds: float) -> None:
        """A step took that long. Only one of one row and token counts: other steps say nothing of a smaller one."""
        if batch.tokens == 1:
            self._small_steps += 1
            self._fastest_step = min(self._fastest_step, seconds)

    def late(self, sequences: Iterable[Sequence], now: float) -> Iterator[tuple[Sequence, Failed]]:
        """The sequences that are to end now, each with what its client is told."""
        for sequence in sequences:
            deadline = sequence.deadline
            if deadline is None:
                continue
            if now >= deadline:
                yield sequence, _too_late(sequence, f"{_state_of(sequence)} when the time of the request was over")
            elif not sequence.started and now + self._least_seconds(sequence) > deadline:
                yield sequence, _too_late(sequence, "the first token cannot come in the time of the request any more")

    def _least_seconds(self, sequence: Sequence) -> float:
        """A lower bound on the time to the first token."""
        if self._small_steps < _ENOUGH_STEPS:
            return 0.0
        least = len(sequence.tokens) - sequence.reusable
        return self._fastest_step * -(-least // self._max_batch_tokens)


def _too_late(sequence: Sequence, why: str) -> Failed:
    return Failed(request_id=sequence.id, code="deadline_exceeded", message=f"timeout: {why}; {_ADVICE}")


def _state_of(sequence: Sequence) -> str:
    if sequence.request.sampling.grammar is not None and sequence.constraint is None:
        return "its grammar was still being compiled"
    if not sequence.started:
        return "no row or no adapter was free yet"
    return f"{sequence.generated} tokens had been generated"
