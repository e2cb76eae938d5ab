"""The base model of the demo, and whether it is on this machine yet. Imports no torch."""

from pathlib import Path

from server.engine.base_cache import prepared_entry
from server.engine.base_progress import SilentProgress
from server.engine.base_source import Quantization, parse_source

__all__ = ["BASE", "QUANTIZATION", "is_prepared"]

BASE = "smollm2-135m"
QUANTIZATION: Quantization = "nf4"


def is_prepared(cache_dir: Path) -> bool:
    """Whether the base is in the cache in its final form, so that a server starts in seconds."""
    source = parse_source(BASE)
    identity = source.identify(SilentProgress())
    return prepared_entry(source.name, identity, quantization=QUANTIZATION, cache_dir=cache_dir).complete
