"""What is simulated: a server's cache tiers, how long its loads take, and how long a request holds a row."""

from typing import Annotated

import msgspec
from msgspec import Meta

Size = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]


class LoadTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long it takes to bring an adapter nearer.

    From the store, a load hashes and reads the file, then copies it onto the device; from host memory it only copies.
    Each stage takes a fixed time and a time by bytes. `workers` loads run at a time, each at the full bandwidth.
    Preloads together take no more than `preload_bytes_per_second`.
    """

    workers: Count = 2
    read_overhead_seconds: Seconds = 0.004
    hash_bytes_per_second: Rate = 1.0e9
    read_bytes_per_second: Rate = 1.5e9
    copy_overhead_seconds: Seconds = 0.0005
    copy_bytes_per_second: Rate = 4.0e9
    preload_bytes_per_second: Rate = 64 * 2**20

    def read_seconds(self, size_bytes: int) -> float:
        """From the store into host memory, hashing included."""
        return self.read_overhead_seconds + size_bytes * (
            1 / self.hash_bytes_per_second + 1 / self.read_bytes_per_second
        )

    def copy_seconds(self, size_bytes: int) -> float:
        """From host memory onto the device."""
        return self.copy_overhead_seconds + size_bytes / self.copy_bytes_per_second


class RowTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a request keeps one of the engine's `rows`, and with it its adapter on the device.

    The prompt takes `prompt_tokens / prefill_tokens_per_second`; then every token takes one step, which takes
    `step_seconds + rows * row_seconds` for the rows that run when this request starts (the batch may change later: that
    is left out). Requests take rows in the order in which they became ready: adapter resident, row not yet free.
    """

    rows: Count = 16
    prefill_tokens_per_second: Rate = 400.0
    step_seconds: Seconds = 0.006
    row_seconds: Seconds = 0.0033

    def service_seconds(self, prompt_tokens: int, output_tokens: int, running: int) -> float:
        """From taking a row to giving it back, `running` rows counting this one."""
        return prompt_tokens / self.prefill_tokens_per_second + output_tokens * (
            self.step_seconds + running * self.row_seconds
        )


class Foretelling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forecasts: every `interval_seconds`, the `count` hottest adapters as predicted `horizon_seconds` ahead."""

    interval_seconds: Rate = 5.0
    count: Count = 64
    horizon_seconds: Seconds = 0.0


class SimulatedServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's settings, as far as the simulation knows them."""

    device_bytes: Size
    host_bytes: Size
    loads: LoadTimes = LoadTimes()
    rows: RowTimes = RowTimes()
    foretelling: Foretelling = Foretelling()
