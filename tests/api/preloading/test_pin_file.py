"""The file of pins: what comes back, and what is told when it does not."""

import logging
from pathlib import Path

import pytest

from server.api.preloading.pin_file import PinFile
from server.errors import PinNotKept


@pytest.fixture
def pin_file(tmp_path: Path) -> PinFile:
    return PinFile(tmp_path / "folder" / "a.pins")


def test_pins_come_back_in_their_order(pin_file: PinFile) -> None:
    assert pin_file.load() == ()
    pin_file.save(("support@prod", "acme/a"))
    pin_file.save(("support@prod", "acme/a", "b"))
    assert pin_file.load() == ("support@prod", "acme/a", "b")
    assert [path.name for path in pin_file.path.parent.iterdir()] == ["a.pins"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"pins": ["a"', '{"pins": [1]}', '{"pins": ["../a"]}', '{"pins": [], "more": 1}']
)
def test_a_damaged_file_is_set_aside_and_told(
    pin_file: PinFile, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    pin_file.path.parent.mkdir()
    pin_file.path.write_text(content)
    with caplog.at_level(logging.ERROR):
        assert pin_file.load() == ()
    assert "set aside as a.pins.damaged, nothing is pinned" in caplog.text
    assert pin_file.path.with_name("a.pins.damaged").read_text() == content
    pin_file.save(("a",))
    assert pin_file.load() == ("a",)


def test_a_file_that_cannot_be_written_is_an_error(pin_file: PinFile) -> None:
    pin_file.path.parent.write_text("in the way")
    with pytest.raises(PinNotKept, match=r"a\.pins cannot be written"):
        pin_file.save(("a",))
