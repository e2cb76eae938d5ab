"""What became of every preload: each ends as useful or as wasted, once."""

from collections.abc import Callable, Iterator

from server.adapters.preload_confidence import PreloadConfidence
from server.engine.messages import AdapterVersion, PreloadOutcome, PreloadReport, Report


class PreloadLedger:
    """The preloads that have begun and not ended, by digest."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self.confidence = PreloadConfidence()
        self._report = report
        self._open: dict[str, AdapterVersion] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._open

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def begin(self, version: AdapterVersion) -> None:
        """A preload of the version begins; what lasts already goes on."""
        self._open.setdefault(version.digest, version)

    def end(self, digest: str, outcome: PreloadOutcome) -> None:
        """The first request for the version came, or it left unused; nothing where there is no preload of it."""
        version = self._open.pop(digest, None)
        if version is not None:
            self.confidence.ended(useful=outcome == "useful")
            self._report(PreloadReport(name=version.name, digest=digest, outcome=outcome))

    def forget(self, digest: str) -> None:
        """A request asked for the version before its preload had begun: it never was one."""
        self._open.pop(digest, None)

    def end_all(self) -> None:
        """Nothing will ask for what is left."""
        for digest in list(self._open):
            self.end(digest, "wasted")
