"""What traffic is predicted to ask for, with what the engine must know to bring it nearer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adapters_store.adapter_files import WEIGHTS_FILE
from server.engine.messages import AdapterVersion, Forecast


@dataclass(frozen=True)
class Foretold:
    """A version that is likely to be asked for, `rate` times a second; `file_bytes` are those of its weights."""

    version: AdapterVersion
    rate: float
    pinned: bool
    file_bytes: int


def measured(forecast: Forecast) -> list[Foretold]:
    """The foretold versions in their order, less those whose files are not there; it looks at the files."""
    return list(_measured(forecast))


def _measured(forecast: Forecast) -> Iterable[Foretold]:
    for one in forecast.versions:
        try:
            size = (Path(one.version.directory) / WEIGHTS_FILE).stat().st_size
        except OSError:
            continue
        yield Foretold(one.version, one.rate, one.pinned, size)
