"""Device memory of bytes, without pages: what the tests of residency count with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.adapters.device_memory import Reservation
from server.adapters.normal_form import NormalForm


@dataclass(frozen=True, eq=False)
class Piece:
    """The bytes of one adapter."""

    size_bytes: int

    @property
    def shared_bytes(self) -> int:
        return self.size_bytes


class SeparateMemory:
    """A `DeviceMemory` of `budget_bytes`, all of which others could use where no adapter lies."""

    def __init__(self, budget_bytes: int, dtype: torch.dtype) -> None:
        self.budget_bytes = self.floor_bytes = budget_bytes
        self.used_bytes = 0
        self._dtype = dtype

    @property
    def lent_bytes(self) -> int:
        return self.used_bytes

    @property
    def free_bytes(self) -> int:
        return self.budget_bytes - self.used_bytes

    @property
    def unused_bytes(self) -> int:
        return self.free_bytes

    def bytes_for(self, form: NormalForm) -> int:
        return form.elements * self._dtype.itemsize

    def fits(self, form: NormalForm, without: Sequence[Reservation] = (), *, over_prefixes: bool = True) -> bool:
        return self.bytes_for(form) <= self.free_bytes + sum(reservation.size_bytes for reservation in without)

    def in_the_way(self, form: NormalForm, without: Sequence[Reservation]) -> Sequence[Reservation]:
        return without

    def reserve(self, form: NormalForm) -> Piece | None:
        if not self.fits(form):
            return None
        piece = Piece(self.bytes_for(form))
        self.used_bytes += piece.size_bytes
        return piece

    def copy(self, form: NormalForm, reservation: Reservation) -> NormalForm:
        return form.laid_into(torch.empty(form.elements, dtype=self._dtype))

    def release(self, reservation: Reservation) -> None:
        self.used_bytes -= reservation.size_bytes
