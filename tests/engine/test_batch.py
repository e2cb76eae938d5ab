"""What a step says of itself."""

from server.engine.batch import Batch, Row
from tests.engine.hand_made import sequence


def test_tokens_are_those_of_all_rows_and_adapters_are_distinct_versions_without_the_base() -> None:
    rows = [(name, count) for name, count in ((None, 3), ("a", 1), ("a", 1), ("b", 5))]
    batch = Batch(tuple(Row(sequence(name=name), 0, count, True, None) for name, count in rows))
    assert batch.tokens == 10
    assert batch.adapters == 2
