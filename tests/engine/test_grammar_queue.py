"""Grammars compile beside the loop; their sequences wait apart and come out ready, refused or given up."""

import threading

import torch

from server.engine.constraint import TokenConstraint
from server.engine.grammar_queue import GrammarQueue
from tests.engine.hand_made import sequence


class Free:
    """A constraint that allows everything."""

    def mask(self) -> torch.Tensor:
        return torch.ones(4, dtype=torch.bool)

    def advance(self, token: int) -> None:
        pass


class Bench:
    """A queue whose compilations wait until the test lets them go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.compiled = threading.Semaphore(0)
        self.queue = GrammarQueue(self._compile, self.compiled.release)

    def _compile(self, grammar: str) -> TokenConstraint:
        assert self.may_go_on.wait(10)
        if grammar == "bad":
            raise ValueError("no such rule: start")
        if grammar == "strange":
            raise KeyError
        if grammar == "panic":
            raise BaseException("the library panicked")
        return Free()

    def go_on(self, compilations: int) -> None:
        self.may_go_on.set()
        for _ in range(compilations):
            assert self.compiled.acquire(timeout=10)


def test_a_sequence_comes_out_with_its_constraint_once_it_is_compiled() -> None:
    bench = Bench()
    one, two = sequence(request_id="1", grammar="good"), sequence(request_id="2", grammar="good")
    bench.queue.add(one)
    bench.queue.add(two)
    assert bench.queue.take() == []
    assert len(bench.queue) == 2
    bench.go_on(2)
    assert bench.queue.take() == [(one, None), (two, None)]
    assert isinstance(one.constraint, Free)
    assert one.constraint is not two.constraint
    assert len(bench.queue) == 0
    bench.queue.close()


def test_a_grammar_that_cannot_be_says_why() -> None:
    bench = Bench()
    for number, grammar in enumerate(("bad", "strange", "panic")):
        bench.queue.add(sequence(request_id=str(number), grammar=grammar))
    bench.go_on(3)
    assert [problem for _, problem in bench.queue.take()] == [
        "no such rule: start",
        "KeyError",
        "the library panicked",
    ]
    bench.queue.close()


def test_a_sequence_that_was_given_up_does_not_come_out() -> None:
    bench = Bench()
    one, two = sequence(request_id="1", grammar="good"), sequence(request_id="2", grammar="good")
    bench.queue.add(one)
    bench.queue.add(two)
    assert bench.queue.remove("2") is two
    assert bench.queue.remove("2") is None
    bench.go_on(2)
    assert [sequence for sequence, _ in bench.queue.take()] == [one]
    assert bench.queue.sequences() == []
    bench.queue.close()
