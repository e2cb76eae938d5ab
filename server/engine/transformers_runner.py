"""Runs a mixed-adapter step with transformers' own model classes, on any device.

The model's linears are wrapped so that adapters apply row by row, and its attention reads the paged cache. The
same code is the engine on CUDA, the portable path on CPU and the oracle of faster runners.
"""

import inspect
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

from server.adapters.adapter_linear import AdapterBatch, AdapterLinear, Segment
from server.adapters.native_adapter_linear import NativeAdapterLinear
from server.engine.batch import Batch, Row
from server.engine.paged_attention import ATTENTION_NAME, PagedKV, plan_attention, register_paged_attention
from server.errors import BaseModelError
from server.kernels.dequantized_linear import DequantizedLinear
from server.kernels.native_linear import NativeKernels, NativeLinear, release_weight
from server.kernels.quantised_linear import Linear4bit

_PROBE_TOKENS = 12


class TransformersRunner:
    """A `Runner` over a causal language model loaded with `attention=ATTENTION_NAME`.

    Args:
        model: the resident base, in evaluation mode; its modules are wrapped in place.
        exact: compute 4-bit linears over dequantised weights instead of with bitsandbytes' kernels.
        native: compute 4-bit linears and their adapters with these instead; the model is in fp32 on the CPU.

    Raises:
        BaseModelError: the model does not give the same logits over the paged cache as by itself.
    """

    def __init__(self, model: PreTrainedModel, *, exact: bool, native: NativeKernels | None = None) -> None:
        register_paged_attention()
        self.model = model
        self.device = model.device
        self.paged_kv = PagedKV()
        self._layout = self.paged_kv.layout(1)
        self._adapters = AdapterBatch()
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._wrap_linears(exact, native)
        self._attach_cache()
        self._check_attention_interface()

    @property
    def adapter_dtype(self) -> torch.dtype:
        """The number format of adapters; see `Runner`."""
        return self.model.dtype

    def page_bytes(self, block_size: int) -> int:
        """Bytes of a page; see `Runner`."""
        return self.paged_kv.layout(block_size).page_bytes

    def allocate(self, pages: int, block_size: int) -> torch.Tensor:
        """Reserve the pages; see `Runner`."""
        self._layout = self.paged_kv.layout(block_size)
        return self.paged_kv.allocate(pages, self._layout, self.device)

    @torch.inference_mode()
    def run(self, batch: Batch) -> torch.Tensor:
        """Logits at the positions that the rows want; see `Runner`."""
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        for row in batch.rows:
            tokens += row.sequence.tokens[row.start : row.start + row.count]
            positions += range(row.start, row.start + row.count)
            wanted += (len(tokens) - row.count + position - row.start for position in row.scored)
            if row.sample:
                wanted.append(len(tokens) - 1)
        self._adapters.compose(
            rows := _segments(batch.rows, lambda row: row.count),
            _segments(batch.rows, lambda row: row.logits) if self._keeps_logits else rows,
        )
        self.paged_kv.plan = plan_attention(batch.rows, self._layout, self.device)
        return self._forward(tokens, positions, wanted)

    def _forward(self, tokens: list[int], positions: list[int], wanted: list[int]) -> torch.Tensor:
        keep = torch.tensor(wanted, dtype=torch.long, device=self.device)
        arguments = {"logits_to_keep": keep} if self._keeps_logits else {}
        output = self.model(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            **arguments,
        )
        logits: torch.Tensor = output.logits[0] if self._keeps_logits else output.logits[0, keep]
        return logits.float()

    def _wrap_linears(self, exact: bool, native: NativeKernels | None) -> None:
        head = self.model.get_output_embeddings()
        # Names, and not modules: a 4-bit weight must be free as soon as it is repacked.
        for name in [name for name, module in self.model.named_modules() if isinstance(module, nn.Linear)]:
            module = self.model.get_submodule(name)
            is_head = module is head and self._keeps_logits
            if native is not None and isinstance(module, Linear4bit):
                packed = NativeLinear(module, native)
                release_weight(module)
                wrapped: AdapterLinear = NativeAdapterLinear(packed, name, self._adapters, head=is_head)
            else:
                base = DequantizedLinear(module) if exact and isinstance(module, Linear4bit) else module
                wrapped = AdapterLinear(base, name, self._adapters, head=is_head)
            self.model.set_submodule(name, wrapped)

    def _attach_cache(self) -> None:
        for module in self.model.modules():
            if getattr(module, "layer_idx", None) is not None:
                module.paged_kv = self.paged_kv  # type: ignore[assignment]

    @torch.inference_mode()
    def _check_attention_interface(self) -> None:
        """Compare the model over our attention with the model over transformers' eager attention, on a few tokens."""
        kind = self.model.config.model_type
        vocabulary = self.model.config.get_text_config().vocab_size
        tokens = [(7919 * index + 11) % vocabulary for index in range(_PROBE_TOKENS)]
        positions, last = list(range(_PROBE_TOKENS)), [_PROBE_TOKENS - 1]
        ours = self._forward(tokens, positions, last)
        if not self.paged_kv.shapes:
            raise BaseModelError(f"{kind!r} never called the attention interface: it cannot use the paged KV cache")
        self.model.set_attn_implementation("eager")
        theirs = self._forward(tokens, positions, last)
        self.model.set_attn_implementation(ATTENTION_NAME)
        tolerance = (1e-3 if ours.dtype == self.model.dtype else 0.1) * max(1.0, float(theirs.abs().max()))
        difference = float((ours - theirs).abs().max())
        if not difference <= tolerance:
            raise BaseModelError(
                f"{kind!r} gives other logits over the paged attention than by itself (by {difference:.3g}): "
                "its attention needs something that the attention interface does not carry"
            )


def _segments(rows: tuple[Row, ...], size_of: Callable[[Row], int]) -> list[Segment]:
    """Neighbouring rows of one adapter as one segment, each row as long as `size_of` says."""
    segments: list[Segment] = []
    at = 0
    for row in rows:
        size = size_of(row)
        if row.form is not None and size:
            if segments and segments[-1].form is row.form and segments[-1].end == at:
                segments[-1] = Segment(segments[-1].start, at + size, row.form)
            else:
                segments.append(Segment(at, at + size, row.form))
        at += size
    return segments
