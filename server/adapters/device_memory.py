"""Where adapters lie on the device, and how much of it they may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from server.adapters.normal_form import NormalForm


class Reservation(Protocol):
    """Device memory that was given to one adapter and is counted until it is released."""

    @property
    def size_bytes(self) -> int:
        """What it counts for, rounded up to how the memory is given out."""


class DeviceMemory(Protocol):
    """Memory for adapters. The engine's thread calls everything but `copy`, which a loader's thread may call."""

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
    def free_bytes(self) -> int:
        """What can be reserved now without another adapter's leaving."""

    def bytes_for(self, form: NormalForm) -> int:
        """What `reserve` would count for a form, which lies in host memory."""

    def fits(self, form: NormalForm, without: Sequence[Reservation] = ()) -> bool:
        """Would `reserve` find place for a form if these reservations were released before?"""

    def shared_bytes(self, reservation: Reservation) -> int:
        """What of a reservation others than adapters could use in its place."""

    def reserve(self, form: NormalForm) -> Reservation | None:
        """Take the memory for a form; None, and no change, where it is not free."""

    def copy(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        """The form on the device, in its reservation and in the engine's number format."""

    def release(self, reservation: Reservation) -> None:
        """Give the memory back; nothing may use the form any more."""


@dataclass(eq=False)
class _Piece:
    """A reservation of `SeparateMemory`: `flat` is memory that an adapter of the same size has left."""

    size_bytes: int
    flat: torch.Tensor | None = None


class SeparateMemory:
    """A budget of bytes for adapters alone; see `DeviceMemory`.

    The memory of adapters that left is kept for others of the same size, as far as the budget has room: the operating
    system's own work for fresh memory takes longer than the copy.
    """

    def __init__(self, budget_bytes: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._device = device
        self._dtype = dtype
        self._left: list[torch.Tensor] = []

    @property
    def floor_bytes(self) -> int:
        """See `DeviceMemory`."""
        return self.budget_bytes

    @property
    def free_bytes(self) -> int:
        """See `DeviceMemory`."""
        return self.budget_bytes - self.used_bytes

    def bytes_for(self, form: NormalForm) -> int:
        """See `DeviceMemory`."""
        return form.elements * self._dtype.itemsize

    def fits(self, form: NormalForm, without: Sequence[Reservation] = ()) -> bool:
        """See `DeviceMemory`."""
        return self.bytes_for(form) <= self.free_bytes + sum(reservation.size_bytes for reservation in without)

    def shared_bytes(self, reservation: Reservation) -> int:  # noqa: ARG002
        """See `DeviceMemory`: nobody else could use it."""
        return 0

    def reserve(self, form: NormalForm) -> _Piece | None:
        """See `DeviceMemory`."""
        size_bytes = self.bytes_for(form)
        if size_bytes > self.free_bytes:
            return None
        fitting = next((index for index, flat in enumerate(self._left) if flat.nbytes == size_bytes), None)
        piece = _Piece(size_bytes, None if fitting is None else self._left.pop(fitting))
        self.used_bytes += size_bytes
        while self._left and sum(flat.nbytes for flat in self._left) > self.free_bytes:
            del self._left[0]
        return piece

    def copy(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        """See `DeviceMemory`."""
        assert isinstance(reservation, _Piece)
        if reservation.flat is None:
            reservation.flat = torch.empty(form.elements, dtype=self._dtype, device=self._device)
        if self._device.type != "cuda":
            return form.laid_into(reservation.flat)
        # On a stream of its own, beside the running step. No step is under way when an adapter leaves, so that the
        # memory which it leaves may be written to at once.
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(stream):
            copied = form.laid_into(reservation.flat)
        stream.synchronize()
        return copied

    def release(self, reservation: Reservation) -> None:
        """See `DeviceMemory`."""
        assert isinstance(reservation, _Piece)
        self.used_bytes -= reservation.size_bytes
        if reservation.flat is not None:
            self._left.append(reservation.flat)
            reservation.flat = None
