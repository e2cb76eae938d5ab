"""Requests whose grammar is being compiled, on threads beside the step loop."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from server.engine.constraint import TokenConstraint
from server.engine.sequence import Sequence

_WORKERS = 1


class GrammarQueue:
    """Keeps sequences apart until their grammar can constrain them. Only the engine thread calls its methods.

    Args:
        compile_grammar: from a serialised grammar to a fresh constraint; takes milliseconds to seconds, called on a
            thread of its own. It raises ValueError for a grammar that cannot be, with a message for the client.
        on_compiled: called on that thread after each.
    """

    def __init__(self, compile_grammar: Callable[[str], TokenConstraint], on_compiled: Callable[[], None]) -> None:
        self._compile = compile_grammar
        self._on_compiled = on_compiled
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="grammar")
        self._compiling: dict[str, tuple[Sequence, Future[TokenConstraint]]] = {}

    def add(self, sequence: Sequence) -> None:
        """Begin with the grammar of a sequence that has one."""
        grammar = sequence.request.sampling.grammar
        assert grammar is not None
        future = self._pool.submit(self._compile, grammar)
        self._compiling[sequence.id] = (sequence, future)
        future.add_done_callback(lambda _: self._on_compiled())

    def take(self) -> list[tuple[Sequence, str | None]]:
        """The sequences that are ready by now, in the order they came, each with its constraint or with why not."""
        ready = [(sequence, future) for sequence, future in self._compiling.values() if future.done()]
        for sequence, _ in ready:
            del self._compiling[sequence.id]
        return [(sequence, _settle(sequence, future)) for sequence, future in ready]

    def remove(self, request_id: str) -> Sequence | None:
        """Give a sequence up; None where it is not here."""
        found = self._compiling.pop(request_id, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def sequences(self) -> list[Sequence]:
        """Every sequence that is still here."""
        return [sequence for sequence, _ in self._compiling.values()]

    def oldest_waiting(self, now: float) -> float:
        """Seconds for which the oldest sequence has been here; 0 where there is none."""
        return max((now - sequence.arrived for sequence in self.sequences()), default=0.0)

    def __len__(self) -> int:
        return len(self._compiling)

    def close(self) -> None:
        """Start no further compilation; wait for the one that runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _settle(sequence: Sequence, future: "Future[TokenConstraint]") -> str | None:
    """Give a sequence its constraint, or say why there is none."""
    try:
        sequence.constraint = future.result()
    except BaseException as error:  # a panic of the library is no Exception, and is that request's end alone
        return str(error) or type(error).__name__
    return None
