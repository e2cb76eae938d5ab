"""What operators pinned at run time, in a file of its own: a pin that was confirmed is on the disk."""

import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters_store import StoreError, parse_adapter_ref
from adapters_store.atomic_file import read_limited, replace_file
from server.errors import PinNotKept

logger = logging.getLogger(__name__)

_LARGEST = 1 << 24
_DAMAGED = ".damaged"


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pins: tuple[str, ...]


class PinFile:
    """The file at `path`, JSON; its folder is made when it is first written. Both methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[str, ...]:
        """The pins, in order of time. Never raises.

        A file that is damaged or unreadable is set aside, with an error in the log: a pin makes answers faster and no
        more, so it is not worth a server that does not start, but whoever pinned must hear of it.
        """
        try:
            pins = msgspec.json.decode(read_limited(self.path, _LARGEST), type=_Content).pins
            for pin in pins:
                parse_adapter_ref(pin)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, StoreError, msgspec.MsgspecError) as error:
            aside = self.path.with_name(self.path.name + _DAMAGED)
            logger.error(
                "the pins in %s cannot be read (%s): set aside as %s, nothing is pinned", self.path, error, aside.name
            )
            with suppress(OSError):
                self.path.rename(aside)
            return ()
        return tuple(dict.fromkeys(pins))

    def save(self, pins: tuple[str, ...]) -> None:
        """Write the file anew.

        Raises:
            PinNotKept: it cannot be written; what was there before is there still.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, msgspec.json.encode(_Content(pins)))
        except OSError as error:
            reason = error.strerror or error
            raise PinNotKept(f"the file of pins {self.path} cannot be written ({reason}): no pin was changed") from None
