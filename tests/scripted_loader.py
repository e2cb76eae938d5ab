"""An adapter loader whose loads end when, and how, a test says."""

from collections import Counter
from collections.abc import Callable

import torch

from server.adapters.loader import AdapterLoader, Copied, Loaded, LoadFailure
from server.adapters.normal_form import LinearForm, NormalForm
from server.engine.messages import AdapterVersion
from tests.separate_memory import SeparateMemory


def form_of(size_bytes: int) -> NormalForm:
    """A form of exactly this size."""
    return NormalForm({"module": LinearForm(in_scale=torch.zeros(size_bytes, dtype=torch.uint8))})


def memory_of(budget_bytes: int) -> SeparateMemory:
    """Device memory in which a form takes just the bytes that `form_of` gave it."""
    return SeparateMemory(budget_bytes, torch.uint8)


class ScriptedLoader(AdapterLoader):
    """`AdapterLoader` without threads or files; `end` and `end_copy` play the part of the loader's threads.

    With `immediate`, every read ends with that form as soon as it starts. Copies end as soon as they start unless
    `copies_wait`.
    """

    def __init__(
        self,
        *,
        max_pending: int = 8,
        max_preloads: int = 2,
        immediate: NormalForm | None = None,
        copies_wait: bool = False,
    ) -> None:
        self._limit = max_pending
        self._preload_limit = max_preloads
        self._immediate = immediate
        self._copies_wait = copies_wait
        self._under_way: dict[str, AdapterVersion] = {}
        self._preloads: set[str] = set()
        self._begun: set[str] = set()
        self._ended: dict[str, Loaded] = {}
        self._copies: dict[str, Callable[[], NormalForm]] = {}
        self._copies_ended: list[Copied] = []
        self.before_peek: Callable[[str], None] = lambda digest: None
        self.preloads: Counter[str] = Counter()

    @property
    def running(self) -> list[str]:
        """The digests of reads that have not ended, in the order of their starts."""
        return [digest for digest in self._under_way if digest not in self._ended]

    @property
    def copying(self) -> list[str]:
        """The digests of copies that have not ended, in the order of their starts."""
        return list(self._copies)

    def begin(self, digest: str) -> None:
        """A thread takes the read up: it can no longer be promoted."""
        assert digest in self.running
        self._begun.add(digest)

    def end(self, digest: str, outcome: NormalForm | LoadFailure) -> None:
        assert digest in self.running
        self._ended[digest] = Loaded(self._under_way[digest], outcome, 0.5)

    def end_copy(self, digest: str, failure: LoadFailure | None = None) -> None:
        self._copies_ended.append(Copied(digest, failure or self._copies.pop(digest)(), 0.0))
        self._copies.pop(digest, None)

    def start(self, version: AdapterVersion, *, preload: bool = False) -> bool:
        digest = version.digest
        if digest not in self._under_way:
            limit, alike = (
                (self._preload_limit, len(self._preloads))
                if preload
                else (self._limit, len(self._under_way) - len(self._preloads))
            )
            if alike >= limit:
                return False
            self._under_way[digest] = version
            if preload:
                self._preloads.add(digest)
                self.preloads[version.name] += 1
            if self._immediate is not None:
                self.end(digest, self._immediate)
        elif not preload and digest not in self._begun and digest not in self._ended:
            self._preloads.discard(digest)
        return True

    def is_preload(self, digest: str) -> bool:
        return digest in self._preloads

    def is_pending(self, digest: str) -> bool:
        return digest in self._under_way

    def peek(self, digest: str) -> Loaded | None:
        self.before_peek(digest)
        return self._ended.get(digest)

    def finished(self) -> list[Loaded]:
        return list(self._ended.values())

    def take(self, digest: str) -> Loaded:
        del self._under_way[digest]
        self._preloads.discard(digest)
        self._begun.discard(digest)
        return self._ended.pop(digest)

    def copy(self, version: AdapterVersion, copy: Callable[[], NormalForm], *, preload: bool) -> None:
        assert version.digest not in self._copies
        self._copies[version.digest] = copy
        self.preloads[version.name] += preload
        if not self._copies_wait:
            self.end_copy(version.digest)

    def promote_copy(self, digest: str) -> None:
        pass

    def take_copied(self) -> list[Copied]:
        ended, self._copies_ended = self._copies_ended, []
        return ended

    def close(self) -> None:
        self._under_way.clear()
