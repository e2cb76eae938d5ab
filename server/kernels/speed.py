"""How fast the 4-bit linears of a whole model are with each kernel, beside what the memory allows."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from bitsandbytes.functional import QuantState, get_4bit_type
from torch import nn

from server.adapters.adapter_linear import AdapterBatch, AdapterLinear, Segment
from server.adapters.native_adapter_linear import NativeAdapterLinear
from server.adapters.normal_form import LinearForm, NormalForm
from server.kernels.dequantized_linear import DequantizedLinear
from server.kernels.native_library import NativeLibrary
from server.kernels.native_linear import NativeKernels, NativeLinear
from server.kernels.quantised_linear import Linear4bit

SMOLLM2_LAYER = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
"""(out, in) of q, k, v, o, gate, up and down in SmolLM2-135M."""
LAYERS = 30
RANKS = (8, 16, 32)

_BLOCK = 64
_STREAMED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Figure:
    """Median of a pass over all linears with `rows` rows of `adapters` adapters (0: the base's).

    `limit_seconds` is what reading the weights and adapters once would take at the measured bandwidth; the
    operations count the base's products alone.
    """

    kernel: str
    rows: int
    adapters: int
    seconds: float
    gflops: float
    tokens_per_second: float
    limit_seconds: float


@dataclass(frozen=True)
class Subject:
    """All linears of a model with one kernel; `batch` says which rows belong to which adapter."""

    kernel: str
    layers: Sequence[AdapterLinear]
    batch: AdapterBatch
    resident_bytes: int

    def run(self, inputs: dict[int, torch.Tensor]) -> None:
        for layer in self.layers:
            layer(inputs[layer.base.in_features])  # type: ignore[index]


def bandwidth(*, repeats: int = 7) -> float:
    """Bytes a second that this process reads from memory, with torch's threads: the best of several, being a limit."""
    values = torch.zeros(_STREAMED_BYTES // 8, dtype=torch.int64)
    return values.nbytes / min(_seconds(lambda: values.sum()) for _ in range(repeats))


@torch.inference_mode()
def measure(
    rows: Sequence[int], adapters: Sequence[int], *, threads: int, repeats: int, layers: int = LAYERS
) -> list[Figure]:
    """Every kernel of this machine at every combination that has a row for each adapter, interleaved.

    Raises:
        NativeKernelsUnavailable: there are no native kernels here.
    """
    torch.set_num_threads(threads)
    subjects = _subjects(threads, layers)
    forms = [_adapter(seed, layers) for seed in range(max(adapters, default=0))]
    mixes = [(count, mixed) for count in rows for mixed in adapters if mixed <= count]
    inputs = {
        count: {size: torch.randn(1, count, size) for size in {shape[1] for shape in SMOLLM2_LAYER}} for count in rows
    }
    times: dict[tuple[str, int, int], list[float]] = {}
    for repeat in range(repeats + 1):
        for count, mixed in mixes:
            segments = list(_segments(count, forms[:mixed]))
            for subject in subjects:
                subject.batch.compose(segments, segments)
                seconds = _seconds(lambda subject=subject, count=count: subject.run(inputs[count]))  # type: ignore[misc]
                if repeat:  # the first one warms up
                    times.setdefault((subject.kernel, count, mixed), []).append(seconds)
    speed = bandwidth()
    return [
        _figure(subject, count, mixed, statistics.median(times[subject.kernel, count, mixed]), forms, speed, layers)
        for count, mixed in mixes
        for subject in subjects
    ]


def _figure(
    subject: Subject, rows: int, adapters: int, seconds: float, forms: Sequence[NormalForm], speed: float, layers: int
) -> Figure:
    operations = 2 * rows * layers * sum(out * size for out, size in SMOLLM2_LAYER)
    read = subject.resident_bytes + sum(form.size_bytes for form in forms[:adapters])
    return Figure(
        subject.kernel, rows, adapters, seconds, operations / seconds / 1e9, rows / seconds, limit_seconds=read / speed
    )


def _subjects(threads: int, layers: int) -> list[Subject]:
    quantised = [_quantised(*shape) for _ in range(layers) for shape in SMOLLM2_LAYER]
    batch = AdapterBatch()
    wrapped = [AdapterLinear(DequantizedLinear(one), str(index), batch) for index, one in enumerate(quantised)]
    stored = sum(one.weight.nbytes + one.weight.nbytes // (_BLOCK // 2) * 4 for one in quantised)
    found = [Subject("reference", wrapped, batch, stored)]
    for name in NativeLibrary().instruction_sets:
        if name == "portable":
            continue
        kernels, batch = NativeKernels(NativeLibrary(instruction_set=name), threads=threads), AdapterBatch()
        packed = [NativeLinear(one, kernels) for one in quantised]
        native = [NativeAdapterLinear(one, str(index), batch) for index, one in enumerate(packed)]
        found.append(Subject(str(kernels), native, batch, sum(_bytes(one) for one in packed)))
    return found


def _quantised(out_features: int, in_features: int) -> Linear4bit:
    """A linear of random codes."""
    module = Linear4bit(in_features, out_features, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    count = out_features * in_features
    state = QuantState(
        absmax=torch.rand(count // _BLOCK) + 0.5,
        shape=torch.Size((out_features, in_features)),
        code=get_4bit_type("nf4", device="cpu"),
        blocksize=_BLOCK,
        quant_type="nf4",
        dtype=torch.float32,
    )
    module.weight.data = torch.randint(256, (count // 2, 1), dtype=torch.uint8)
    module.weight.quant_state = state  # type: ignore[attr-defined]
    return module.requires_grad_(False)


def _adapter(seed: int, layers: int) -> NormalForm:
    rank = RANKS[seed % len(RANKS)]
    shapes = [shape for _ in range(layers) for shape in SMOLLM2_LAYER]
    return NormalForm(
        {
            str(index): LinearForm(a=torch.randn(rank, size), b=torch.randn(out, rank))
            for index, (out, size) in enumerate(shapes)
        }
    )


def _segments(rows: int, forms: Sequence[NormalForm]) -> Iterator[Segment]:
    for index, form in enumerate(forms):
        yield Segment(rows * index // len(forms), rows * (index + 1) // len(forms), form)


def _bytes(module: nn.Module) -> int:
    return sum(buffer.nbytes for buffer in module.buffers())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
