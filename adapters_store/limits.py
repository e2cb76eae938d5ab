"""Bounds on what may be published."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest adapter that a store takes: rank, bytes of the weights file, tensors, bytes of the configuration."""

    max_rank: int = 256
    max_bytes: int = 2048 * MIB
    max_tensors: int = 100_000
    max_config_bytes: int = MIB
