"""Whose row is taken back: shares become more even, and no row goes back and forth."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.fair_rows import RowShares
from server.engine.messages import SamplingParams, Submit
from server.engine.sequence import Sequence
from tests.engine.hand_made import adapter


def of(name: str, *, tenant: str = "", arrived: float = 0.0, priority: int = 0) -> Sequence:
    request = Submit(
        request_id=f"{tenant}/{name}@{arrived:g}",
        prompt=[1],
        adapter=adapter(name),
        tenant=tenant,
        priority=priority,
        sampling=SamplingParams(max_tokens=8),
    )
    return Sequence(request, arrived)


def row_to_take_back(candidate: Sequence, running: list[Sequence]) -> Sequence | None:
    return RowShares(running).to_take_back(candidate)


def test_rows_are_counted_by_tenant_and_by_its_adapters() -> None:
    shares = RowShares([of("a"), of("a"), of("b"), of("a", tenant="t")])
    assert shares.of(of("a")) == (3, 2)
    assert shares.of(of("a", tenant="t")) == (1, 1)
    assert shares.of(of("a", tenant="u")) == (0, 0)


def test_the_adapter_with_most_rows_gives_up_its_youngest() -> None:
    old, young = of("hot", arrived=1), of("hot", arrived=2)
    assert row_to_take_back(of("new"), [young, old, of("other", arrived=3)]) is young


def test_nobody_gives_up_his_only_row() -> None:
    assert row_to_take_back(of("new"), [of("a"), of("b"), of("c")]) is None


def test_one_row_more_is_even_enough() -> None:
    assert row_to_take_back(of("b"), [of("a"), of("a"), of("b")]) is None
    assert row_to_take_back(of("b"), [of("a"), of("a"), of("a"), of("b")]) is not None


def test_tenants_are_evened_out_before_adapters() -> None:
    many = [of(name, tenant="many", arrived=number) for number, name in enumerate("abc")]
    assert row_to_take_back(of("x", tenant="one"), many) is many[-1]
    one = of("x", tenant="one")
    assert row_to_take_back(of("d", tenant="many"), [*many, one]) is None


def test_of_a_rich_tenant_its_largest_adapter_gives() -> None:
    rows = [of("a", tenant="many", arrived=1), of("a", tenant="many", arrived=2), of("b", tenant="many", arrived=3)]
    assert row_to_take_back(of("x", tenant="one"), rows) is rows[1]


def test_inside_a_tenant_none_goes_to_a_lower_priority() -> None:
    urgent = [of("hot", arrived=number, priority=2) for number in range(3)]
    assert row_to_take_back(of("new", priority=1), urgent) is None
    assert row_to_take_back(of("new", priority=2), urgent) is urgent[-1]
    ordinary = of("hot", arrived=0.5, priority=1)
    assert row_to_take_back(of("new", priority=1), [*urgent, ordinary]) is ordinary


def test_priorities_of_another_tenant_mean_nothing() -> None:
    urgent = [of("hot", tenant="many", arrived=number, priority=9) for number in range(2)]
    assert row_to_take_back(of("x", tenant="one"), urgent) is urgent[-1]


parties = st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "t", "u"]), st.integers(0, 2))


@given(running=st.lists(parties, max_size=12), candidate=parties)
def test_what_is_taken_would_not_be_taken_back(
    running: list[tuple[str, str, int]], candidate: tuple[str, str, int]
) -> None:
    rows = [
        of(name, tenant=tenant, priority=priority, arrived=number)
        for number, (name, tenant, priority) in enumerate(running)
    ]
    name, tenant, priority = candidate
    newcomer = of(name, tenant=tenant, priority=priority, arrived=99)
    given_up = row_to_take_back(newcomer, rows)
    if given_up is not None:
        assert row_to_take_back(given_up, [row for row in rows if row is not given_up] + [newcomer]) is None
