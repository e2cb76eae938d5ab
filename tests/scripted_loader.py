"""An adapter loader whose loads end when, and how, a test says."""

from collections.abc import Callable

import torch

from server.adapters.loader import AdapterLoader, Loaded, LoadFailure
from server.adapters.normal_form import LinearForm, NormalForm
from server.engine.messages import AdapterVersion


def form_of(size_bytes: int) -> NormalForm:
    """A form of exactly this size."""
    return NormalForm({"module": LinearForm(in_scale=torch.zeros(size_bytes, dtype=torch.uint8))})


class ScriptedLoader(AdapterLoader):
    """`AdapterLoader` without threads or files; `end` plays the part of the loader's threads.

    With `immediate`, every load ends with that form as soon as it starts.
    """

    def __init__(self, *, max_pending: int = 8, immediate: NormalForm | None = None) -> None:
        self._limit = max_pending
        self._immediate = immediate
        self._under_way: dict[str, AdapterVersion] = {}
        self._ended: dict[str, Loaded] = {}
        self.before_peek: Callable[[str], None] = lambda digest: None

    @property
    def running(self) -> list[str]:
        """The digests of loads that have not ended, in the order of their starts."""
        return [digest for digest in self._under_way if digest not in self._ended]

    def end(self, digest: str, outcome: NormalForm | LoadFailure) -> None:
        assert digest in self.running
        self._ended[digest] = Loaded(self._under_way[digest], outcome, 0.5)

    def start(self, version: AdapterVersion) -> bool:
        if version.digest not in self._under_way:
            if len(self._under_way) >= self._limit:
                return False
            self._under_way[version.digest] = version
            if self._immediate is not None:
                self.end(version.digest, self._immediate)
        return True

    def is_pending(self, digest: str) -> bool:
        """Is this version loading, or waiting to be taken?"""
        return digest in self._under_way

    def peek(self, digest: str) -> Loaded | None:
        self.before_peek(digest)
        return self._ended.get(digest)

    def finished(self) -> list[Loaded]:
        return list(self._ended.values())

    def take(self, digest: str) -> Loaded:
        del self._under_way[digest]
        return self._ended.pop(digest)

    def close(self) -> None:
        self._under_way.clear()
