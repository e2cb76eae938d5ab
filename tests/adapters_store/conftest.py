"""Stores and adapters that several files use."""

from pathlib import Path

import pytest

from adapters_store.names import AdapterName
from adapters_store.store import AdapterStore
from tests.adapters_store.hand_made import BASE


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    """An empty store with a described base."""
    store = AdapterStore(tmp_path / "store")
    store.describe_base(BASE)
    return store


@pytest.fixture
def support() -> AdapterName:
    return AdapterName(None, "support")
