"""What is known of the traffic, kept in one file across restarts.

The file is a line with the format's version, a CRC-32 of the rest, and the state as msgpack, compressed. Compression's
own checksum is of the state alone: bits that fill up the last byte of the stream would be nobody's.
A damaged one is set aside, with a warning, and the model begins anew: no history is worth a server that does not start.
"""

import logging
import math
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters_store.atomic_file import read_limited, replace_file
from server.adapters.traffic.traffic_model import TrafficModel, TrafficState

logger = logging.getLogger(__name__)

_HEADER = b"switchyard traffic 2\n"
_CHECKSUM_BYTES = 4
_LARGEST = 1 << 28
_DAMAGED = ".damaged"


class TrafficRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds: the model's state."""

    traffic: TrafficState


class TrafficHistory:
    """The file at `path`; its folder is made when it is first written. Both methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, model: TrafficModel, now: float = math.inf) -> None:
        """Let `model` know what it knew when the file was written. Never raises.

        Times after `now`, in Unix seconds, are those of a clock that was ahead: they count as `now`.
        """
        try:
            record = _decoded(read_limited(self.path, _LARGEST))
            model.restore(record.traffic, now)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("the traffic history %s cannot be read: %s", self.path, error.strerror or error)
        except (ValueError, zlib.error, msgspec.MsgspecError) as error:
            aside = self.path.with_name(self.path.name + _DAMAGED)
            logger.warning("the traffic history %s is damaged (%s): set aside as %s", self.path, error, aside.name)
            with suppress(OSError):
                self.path.rename(aside)

    def save(self, record: TrafficRecord) -> None:
        """Write the file anew.

        Raises:
            OSError: it cannot be written; what was there before is there still.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        packed = zlib.compress(msgspec.msgpack.encode(record), 1)
        replace_file(self.path, _HEADER + _checksum(packed) + packed)


def _decoded(content: bytes) -> TrafficRecord:
    if not content.startswith(_HEADER):
        raise ValueError("it is of another format or version")
    start = len(_HEADER) + _CHECKSUM_BYTES
    checksum, packed = content[len(_HEADER) : start], content[start:]
    if checksum != _checksum(packed):
        raise ValueError("its checksum differs")
    unpacking = zlib.decompressobj()
    state = unpacking.decompress(packed, _LARGEST)
    if not unpacking.eof:
        raise ValueError("it is too large")
    return msgspec.msgpack.decode(state, type=TrafficRecord)


def _checksum(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(_CHECKSUM_BYTES, "big")
