"""Where adapters lie on the device, and how much of it they may take."""

from collections.abc import Sequence
from typing import Protocol

from server.adapters.normal_form import NormalForm


class Reservation(Protocol):
    """Device memory that was given to one adapter and is counted until it is released."""

    @property
    def size_bytes(self) -> int:
        """What it counts for, rounded up to how the memory is given out."""

    @property
    def shared_bytes(self) -> int:
        """What of it others than adapters could use in its place."""


class DeviceMemory(Protocol):
    """Memory for adapters. The engine's thread calls everything, `bytes_for` and `copy` the loader's threads too."""

    @property
    def budget_bytes(self) -> int:
        """The most that adapters may ever take together."""

    @property
    def floor_bytes(self) -> int:
        """What adapters can always have together: a form that counts for more cannot serve."""

    @property
    def used_bytes(self) -> int:
        """What is reserved now."""

    @property
    def lent_bytes(self) -> int:
        """What of that others than adapters could use in their place."""

    @property
    def free_bytes(self) -> int:
        """What can be reserved now without another adapter's leaving."""

    @property
    def unused_bytes(self) -> int:
        """What of `free_bytes` nobody has a use for: it holds no prefix that was kept."""

    def bytes_for(self, form: NormalForm) -> int:
        """What `reserve` would count for a form, which lies in host memory."""

    def fits(self, form: NormalForm, without: Sequence[Reservation] = (), *, over_prefixes: bool = True) -> bool:
        """Would `reserve` find place for a form if these reservations were released before?

        Not `over_prefixes`: and would it cost no prefix that was kept?
        """

    def in_the_way(self, form: NormalForm, without: Sequence[Reservation]) -> Sequence[Reservation]:
        """Those of `without` that do for `fits` alone, where all of them do."""

    def reserve(self, form: NormalForm) -> Reservation | None:
        """Take the memory for a form; None, and no change, where it is not free."""

    def copy(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        """The form on the device, in its reservation and in the engine's number format."""

    def release(self, reservation: Reservation) -> None:
        """Give the memory back; nothing may use the form any more."""
