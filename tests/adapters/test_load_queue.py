"""What the loader's threads do first."""

import threading

from server.adapters.load_queue import Job, LoadQueue, Urgency
from server.adapters.token_bucket import TokenBucket
from server.config import Settings


class Bench:
    """A queue whose jobs only note that they ran; one thread, unless a test starts more."""

    def __init__(self, *, workers: int = 1, bytes_per_second: int = 0) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.bucket = TokenBucket(bytes_per_second, clock=lambda: self.now)
        self.queue = LoadQueue(workers=workers, bucket=self.bucket)

    def put(self, name: str, urgency: Urgency) -> None:
        self.queue.put(Job(name, urgency, lambda: self.ran.append(name)))

    def run(self, count: int) -> list[str]:
        for _ in range(count):
            assert self.queue.run_one()
        return self.ran


def test_a_waiting_request_goes_before_any_preload_and_the_nearer_to_its_end_first() -> None:
    bench = Bench()
    for urgency in (Urgency.PRELOAD_READ, Urgency.PRELOAD_COPY, Urgency.READ, Urgency.COPY):
        bench.put(urgency.name, urgency)
    bench.put("second read", Urgency.READ)
    assert bench.run(5) == ["COPY", "READ", "second read", "PRELOAD_COPY", "PRELOAD_READ"]


def test_a_preload_that_a_request_asks_for_goes_as_if_it_had_from_the_start() -> None:
    bench = Bench()
    bench.put("preload", Urgency.PRELOAD_READ)
    bench.put("other preload", Urgency.PRELOAD_READ)
    bench.put("read", Urgency.READ)
    assert bench.queue.promote("other preload")
    assert not bench.queue.promote("read")
    assert not bench.queue.promote("unknown")
    assert bench.run(3) == ["other preload", "read", "preload"]


def test_preloads_begin_only_within_their_bandwidth_and_requests_regardless_of_it() -> None:
    bench = Bench(bytes_per_second=100)
    bench.bucket.spend(150)
    bench.put("preload", Urgency.PRELOAD_READ)
    bench.put("read", Urgency.READ)
    assert bench.run(1) == ["read"]
    assert bench.queue._next() == (None, 0.5)
    bench.now = 0.5
    assert bench.run(1) == ["read", "preload"]


def test_a_debt_is_paid_by_time_and_no_more_than_a_second_is_saved_up() -> None:
    bench = Bench(bytes_per_second=100)
    bench.bucket.spend(300)
    assert bench.bucket.wait() == 2.0
    bench.now = 60.0
    assert bench.bucket.wait() == 0.0
    bench.bucket.spend(200)
    assert bench.bucket.wait() == 1.0


def test_preloads_leave_one_of_several_workers_to_requests() -> None:
    bench, gate, began = Bench(workers=2), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert gate.wait(10)

    bench.queue.put(Job("held", Urgency.PRELOAD_READ, hold))
    thread = threading.Thread(target=bench.queue.run_one)
    thread.start()
    assert began.wait(10)
    bench.put("preload", Urgency.PRELOAD_READ)
    assert bench.queue._next() == (None, None)
    bench.put("read", Urgency.READ)
    assert bench.run(1) == ["read"]
    gate.set()
    thread.join(10)
    assert bench.run(1) == ["read", "preload"]


def test_a_closed_queue_begins_nothing() -> None:
    bench = Bench()
    bench.put("read", Urgency.READ)
    bench.queue.close()
    assert not bench.queue.run_one()
    assert bench.ran == []


def test_by_default_a_running_preload_leaves_a_worker_to_requests() -> None:
    bench, gate, began = Bench(workers=Settings().adapter_load_workers), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert gate.wait(10)

    bench.queue.put(Job("held", Urgency.PRELOAD_READ, hold))
    threads = [threading.Thread(target=bench.queue.run_one) for _ in range(Settings().adapter_load_workers)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    asked_for = threading.Event()
    bench.queue.put(Job("copy", Urgency.COPY, asked_for.set))
    assert asked_for.wait(10)
    gate.set()
    for thread in threads:
        thread.join(10)
