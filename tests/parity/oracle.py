"""What an adapter must say: PEFT's own forward, one adapter at a time, over plain fp32 linears.

The linears hold the dequantised 4-bit weights, because bitsandbytes' CPU kernels choose their arithmetic by the
processor.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig

from server.engine.base_model import PreparedBase, load_base


def dense_model(prepared: PreparedBase) -> nn.Module:
    """The prepared base with every 4-bit linear replaced by a plain one of the dequantised weight."""
    model = load_base(prepared, device=torch.device("cpu"), dtype=torch.float32, attention="eager")
    for name, module in [*model.named_modules()]:
        if isinstance(module, Linear4bit):
            linear = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            linear.weight = nn.Parameter(dequantize_4bit(module.weight.data, module.weight.quant_state).float())  # type: ignore[attr-defined]
            if module.bias is not None:
                linear.bias = module.bias
            model.set_submodule(name, linear)
    model.is_quantized = False  # type: ignore[assignment]
    return model


class Oracle:
    """Greedy continuations by `generate`, without stopping at the end-of-sequence token, and scores by log-softmax."""

    def __init__(self, prepared: PreparedBase) -> None:
        self._prepared = prepared
        self._model = dense_model(prepared)

    def greedy(self, adapter: Path | None, prompts: Iterable[Sequence[int]], count: int) -> list[list[int]]:
        """`count` tokens after each prompt under the adapter in a directory, or under the bare base."""
        with self._adapted(adapter) as model:
            return [_generate(model, prompt, count) for prompt in prompts]

    def log_probabilities(self, adapter: Path | None, tokens: Sequence[int]) -> torch.Tensor:
        """The log-softmax after each of the tokens, fp32 [tokens, vocabulary]."""
        with self._adapted(adapter) as model, torch.inference_mode():
            logits: torch.Tensor = model(input_ids=torch.tensor([list(tokens)])).logits[0]
            return logits.float().log_softmax(-1)

    @contextmanager
    def _adapted(self, adapter: Path | None) -> Iterator[nn.Module]:
        model = self._model
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter, adapter_name="oracle")
            model.eval()
        try:
            yield model
        finally:
            if isinstance(model, PeftModel):
                self._model = model.unload()


@torch.inference_mode()
def _generate(model: nn.Module, prompt: Sequence[int], count: int) -> list[int]:
    ids = torch.tensor([list(prompt)])
    config = GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    output = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    tokens: list[int] = output[0, ids.shape[1] :].tolist()
    return tokens
