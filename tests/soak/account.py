"""What a server says of its memory, and what that must come to: constants, and sums that two parts of it keep."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Reading:
    """One reading of `/metrics`.

    `sums` are by name, of answers by name and status; `pages` by holder; `resident` are versions on the device by rank.
    An engine that is not ready has no gauges.
    """

    sums: Mapping[str, float]
    pages: Mapping[str, float]
    resident: Mapping[int, float]

    @classmethod
    def of(cls, text: str) -> "Reading":
        """Read the text of `/metrics`."""
        sums: defaultdict[str, float] = defaultdict(float)
        pages: dict[str, float] = {}
        resident: defaultdict[int, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name + sample.labels.get("status", "")] += sample.value
                if sample.name == "switchyard_device_pages":
                    pages[sample.labels["holder"]] = sample.value
                elif sample.name == "vllm:lora_adapter_loaded" and sample.labels["level"] == "device":
                    resident[int(sample.labels["rank"])] += sample.value
        return cls(dict(sums), pages, dict(resident))

    @property
    def has_engine(self) -> bool:
        """Whether the gauges of an engine are there."""
        return "switchyard_adapter_bytes" in self.sums


@dataclass(frozen=True)
class Account:
    """What was agreed when the server was empty. `sizes` are bytes on the device by an adapter's rank."""

    kv_blocks: int
    adapter_budget_bytes: int
    host_budget_bytes: int
    page_bytes: int
    pages: int
    sizes: Mapping[int, int]

    @classmethod
    def opened(cls, empty: Reading, settings: Mapping[str, object], sizes: Mapping[int, int]) -> "Account":
        """The account of a server without shared pages, from its settings and a reading before its first request.

        Raises:
            AssertionError: the server has not what its settings say.
        """
        kv_bytes, adapter_bytes = (int(str(settings[name])) for name in ("kv_cache_bytes", "adapter_budget_bytes"))
        kv_blocks, pages = int(empty.sums["switchyard_kv_blocks"]), int(sum(empty.pages.values()))
        budget = int(empty.sums["switchyard_adapter_budget_bytes"])
        page_bytes, rest = divmod(budget, pages - kv_blocks)
        assert rest == 0, f"adapters may have {budget} bytes: not whole pages"
        assert kv_blocks == kv_bytes // page_bytes, f"{kv_blocks} blocks of {page_bytes} bytes for {kv_bytes}"
        assert budget == -(-adapter_bytes // page_bytes) * page_bytes, f"{budget} bytes for {adapter_bytes}"
        return cls(kv_blocks, budget, int(str(settings["host_cache_bytes"])), page_bytes, pages, sizes)

    def faults(self, now: Reading) -> Iterator[str]:
        """What must not be at any moment of a ready engine.

        Blocks and bytes that may be had are told as used and available together: one that is lost lowers the sum.
        """
        for name, agreed in (
            ("switchyard_kv_blocks", self.kv_blocks),
            ("switchyard_adapter_budget_bytes", self.adapter_budget_bytes),
            ("switchyard_adapter_host_budget_bytes", self.host_budget_bytes),
        ):
            if now.sums[name] != agreed:
                yield f"{name} is {now.sums[name]:g} and was {agreed}"
        for name, most in (
            ("switchyard_kv_blocks_used", self.kv_blocks),
            ("switchyard_adapter_bytes", self.adapter_budget_bytes),
            ("switchyard_adapter_host_bytes", self.host_budget_bytes),
        ):
            if not 0 <= now.sums[name] <= most:
                yield f"{name} is {now.sums[name]:g}, not within {most}"
        if sum(now.pages.values()) != self.pages or min(now.pages.values()) < 0:
            yield f"the pages are {dict(now.pages)}, not {self.pages} in all"
        if now.pages["kv"] + now.pages["prefix"] > self.kv_blocks:
            yield f"keys and values have {dict(now.pages)}, more than {self.kv_blocks} pages"

    def faults_when_idle(self, now: Reading) -> Iterator[str]:
        """What must not be where nothing runs and nothing is loaded."""
        yield from self.faults(now)
        for name in ("adapters_pinned", "requests_running", "requests_waiting", "kv_blocks_used"):
            if now.sums[f"switchyard_{name}"] != 0:
                yield f"{name} is {now.sums[f'switchyard_{name}']:g} on an idle server"
        if now.pages["free"] + now.pages["prefix"] + now.pages["adapters"] != self.pages:
            yield f"the pages of an idle server are {dict(now.pages)}, not {self.pages} free, kept or an adapter's"
        held = now.sums["switchyard_adapter_bytes"]
        listed = sum(count * self.sizes[rank] for rank, count in now.resident.items())
        if not held == listed == now.pages["adapters"] * self.page_bytes:
            yield f"adapters hold {held:g} bytes, those resident {listed:g}, by pages {dict(now.pages)}"
