"""A loader whose loads end when the test says so; the real one is tested on real files."""

import torch

from server.adapters.loader import Loaded, LoadFailure
from server.adapters.normal_form import LinearForm, NormalForm
from server.engine.messages import AdapterVersion


def form_of(size_bytes: int) -> NormalForm:
    """A form that takes `size_bytes` (a multiple of 8) on the device."""
    factor = torch.zeros(1, size_bytes // 8)
    return NormalForm({"module": LinearForm(a=factor, b=factor.clone())})


def named(name: str) -> AdapterVersion:
    return AdapterVersion(name=name, digest=f"sha256:{name}", directory=f"/nowhere/{name}")


class ScriptedLoader:
    """`AdapterLoader` by hand: `finish` and `fail` end the load that `start` began."""

    def __init__(self, *, immediate_bytes: int | None = None) -> None:
        self.started: list[str] = []
        self._immediate_bytes = immediate_bytes
        self._pending: dict[str, AdapterVersion] = {}
        self._done: dict[str, Loaded] = {}

    def start(self, version: AdapterVersion) -> bool:
        if version.digest not in self._pending:
            self.started.append(version.name)
            self._pending[version.digest] = version
            if self._immediate_bytes is not None:
                self.finish(version, self._immediate_bytes)
        return True

    def finish(self, version: AdapterVersion, size_bytes: int) -> None:
        self._done[version.digest] = Loaded(self._pending[version.digest], form_of(size_bytes), 0.01)

    def fail(self, version: AdapterVersion, failure: LoadFailure) -> None:
        self._done[version.digest] = Loaded(self._pending[version.digest], failure, 0.01)

    def is_pending(self, digest: str) -> bool:
        return digest in self._pending

    def peek(self, digest: str) -> Loaded | None:
        return self._done.get(digest)

    def finished(self) -> list[Loaded]:
        return list(self._done.values())

    def take(self, digest: str) -> Loaded:
        del self._pending[digest]
        return self._done.pop(digest)

    def close(self) -> None:
        pass
