"""The base's description: kept, replaced, and refused when damaged."""

from pathlib import Path

import pytest

from adapters_store.base_description import BaseDescription, load_base, save_base
from adapters_store.errors import StoreError
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import BASE


def test_a_description_survives_saving(tmp_path: Path) -> None:
    save_base(BASE, tmp_path / "base.json")
    assert load_base(tmp_path / "base.json") == BASE


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert load_base(tmp_path / "base.json") is None
    assert AdapterStore(tmp_path / "store").base() is None


def test_the_store_keeps_the_latest(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path)
    store.describe_base(BASE)
    other = BaseDescription("org/other", "Qwen2ForCausalLM", {"lm_head": (32, 8)})
    store.describe_base(other)
    assert AdapterStore(tmp_path).base() == other


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"name": "a"}', b'{"name": "a", "architecture": "b", "modules": {"m": [1]}}', b"\xff"]
)
def test_a_damaged_one_is_an_error_that_names_the_file(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "base.json").write_bytes(text)
    with pytest.raises(StoreError, match=r"base\.json"):
        load_base(tmp_path / "base.json")


def test_a_damaged_one_can_be_described_again(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path)
    (tmp_path / "base.json").write_text("{")
    store.describe_base(BASE)
    assert store.base() == BASE
