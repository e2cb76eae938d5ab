"""The file of the traffic's history: what comes back, and what does not stop a server."""

import logging
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.adapters.traffic.traffic_history import TrafficHistory, TrafficRecord
from server.adapters.traffic.traffic_model import TrafficModel


def busy_model() -> TrafficModel:
    model = TrafficModel(zone=UTC)
    for at in range(100):
        model.observe(f"tenant/adapter-{at % 7}@prod", 1e9 + 60 * at)
    return model


@pytest.fixture
def history(tmp_path: Path) -> TrafficHistory:
    return TrafficHistory(tmp_path / "folder" / "traffic.history")


def test_a_model_comes_back(history: TrafficHistory) -> None:
    model, restored = busy_model(), TrafficModel(zone=UTC)
    history.save(TrafficRecord(traffic=model.state()))
    history.load(restored)
    assert restored.state() == model.state()
    assert [path.name for path in history.path.parent.iterdir()] == ["traffic.history"]


def test_without_a_file_nothing_is_known(history: TrafficHistory) -> None:
    model = TrafficModel()
    history.load(model)
    assert len(model) == 0


def test_a_hundred_thousand_adapters_are_a_small_file(history: TrafficHistory) -> None:
    model = TrafficModel(zone=UTC)
    for number in range(100_000):
        model.observe(f"tenant-{number % 50}/adapter-{number}", 1e9 + number / 100)
    history.save(TrafficRecord(traffic=model.state()))
    assert history.path.stat().st_size < 4_000_000
    restored = TrafficModel(zone=UTC)
    history.load(restored)
    assert len(restored) == 100_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_set_aside(history: TrafficHistory, data: st.DataObject) -> None:
    history.save(TrafficRecord(traffic=busy_model().state()))
    content = bytearray(history.path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    history.path.write_bytes(content)
    model = TrafficModel()
    history.load(model)
    assert len(model) == 0
    assert not history.path.exists()
    assert history.path.with_name("traffic.history.damaged").read_bytes() == content


def test_a_damaged_file_is_told(history: TrafficHistory, caplog: pytest.LogCaptureFixture) -> None:
    history.path.parent.mkdir()
    history.path.write_bytes(b"switchyard traffic 99\n")
    with caplog.at_level(logging.WARNING):
        history.load(TrafficModel())
    assert "of another format or version" in caplog.text
    assert "set aside as traffic.history.damaged" in caplog.text


def test_a_file_that_cannot_be_read_is_told_and_left(history: TrafficHistory, caplog: pytest.LogCaptureFixture) -> None:
    history.path.mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        history.load(TrafficModel())
    assert "cannot be read" in caplog.text
    assert history.path.is_dir()
