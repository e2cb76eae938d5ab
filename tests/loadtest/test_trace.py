"""Traces: what is written is read again, and what cannot be read says where."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.public_traces import Assignment, is_public_trace, read_public_trace
from loadtest.trace import Arrival, TraceError, faster, read_trace, write_trace
from loadtest.workloads.popularity import Zipf

ARRIVALS = st.builds(
    Arrival,
    at=st.floats(0, 1e6),
    adapter=st.text(min_size=1),
    prompt_tokens=st.integers(1, 10**6),
    output_tokens=st.integers(1, 10**6),
    tenant=st.text(),
)

BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,230,1317,Conversation log
46,ChatGPT,10,0,10,API log
118,ChatGPT,417,276,693,Conversation log
"""
BURST_WITH_SESSIONS = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
100.0,one,43,GPT-4,906,446,1352,Conversation log
161.0,two,2,ChatGPT,36,29,65,Conversation log
162.0,one,2,ChatGPT,36,29,65,Conversation log
"""
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01.009930+00:00,2399,6
"""
NAMES = ("a", "b", "c")


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def public(folder: Path, text: str, column: str | None = None) -> list[Arrival]:
    popularity = Zipf(3) if column is None else None
    return list(read_public_trace(written(folder, text), Assignment(NAMES, popularity, column)))


@given(arrivals=st.lists(ARRIVALS, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_what_is_written_is_read_again(tmp_path: Path, arrivals: list[Arrival]) -> None:
    ordered = sorted(arrivals, key=lambda arrival: arrival.at)
    path = tmp_path / "trace.jsonl"
    assert write_trace(path, ordered) == len(ordered)
    assert list(read_trace(path)) == ordered


GOOD = '{"at":1,"adapter":"a","prompt_tokens":1,"output_tokens":1}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2"),
        ('{"at":2,"adapter":"a","prompt_tokens":1}', "output_tokens"),
        ('{"at":2,"adapter":"a","prompt_tokens":0,"output_tokens":1}', "prompt_tokens"),
        ('{"at":-1,"adapter":"a","prompt_tokens":1,"output_tokens":1}', "at"),
        ('{"at":0.5,"adapter":"a","prompt_tokens":1,"output_tokens":1}', "before the line above"),
        (GOOD[:-1] + ',"user":"x"}', "user"),
        ("\udcff", "line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(f"{GOOD}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(TraceError, match=reason) as raised:
        list(read_trace(path))
    assert "line 2" in str(raised.value)


def test_arrivals_out_of_order_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with pytest.raises(TraceError, match="sort them"):
        write_trace(path, [Arrival(2, "a", 1, 1), Arrival(1, "a", 1, 1)])
    assert not path.exists()


def test_a_speed_up_divides_the_times() -> None:
    assert [a.at for a in faster([Arrival(0, "a", 1, 1), Arrival(5, "a", 1, 1)], 2.5)] == [0, 2]
    with pytest.raises(ValueError, match="speed-up"):
        list(faster([], 0))


def test_burstgpt_counts_from_its_first_row_and_leaves_failures_out(tmp_path: Path) -> None:
    found = public(tmp_path, BURST)
    assert [(a.at, a.prompt_tokens, a.output_tokens) for a in found] == [(0, 472, 18), (40, 1087, 230), (113, 417, 276)]
    assert {arrival.adapter for arrival in found} <= set(NAMES)
    assert found == public(tmp_path, BURST)


def test_a_column_decides_the_adapter(tmp_path: Path) -> None:
    one, two, again = public(tmp_path, BURST_WITH_SESSIONS, "Session ID")
    assert one.adapter == again.adapter
    assert two.at == 61
    by_model = public(tmp_path, BURST, "Model")
    assert by_model[0].adapter == by_model[2].adapter


@pytest.mark.parametrize(("text", "times"), [(AZURE, [0, 4.314579]), (AZURE_2024, [0, 1])])
def test_azure_has_dates(tmp_path: Path, text: str, times: list[float]) -> None:
    assert [arrival.at for arrival in public(tmp_path, text)] == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a,b\n1,2\n", None, "neither BurstGPT's nor Azure's"),
        (BURST, "Session ID", "no column 'Session ID'"),
        (BURST + "soon,ChatGPT,1,1,2,API log\n", None, "line 6"),
        (BURST + "200,ChatGPT,many,1,2,API log\n", None, "line 6"),
        (AZURE + "yesterday,1,1\n", None, "line 4"),
        (AZURE + "2023-11-16 18:16:00\n", None, "line 4"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path: Path, text: str, column: str | None, reason: str) -> None:
    with pytest.raises(TraceError, match=reason):
        public(tmp_path, text, column)


def test_formats_are_told_apart(tmp_path: Path) -> None:
    assert is_public_trace(written(tmp_path, BURST))
    assert is_public_trace(written(tmp_path, AZURE))
    assert not is_public_trace(written(tmp_path, GOOD + "\n"))
