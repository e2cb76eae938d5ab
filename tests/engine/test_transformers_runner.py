"""One packed step of any rows equals the model over each text alone; what would not is refused at the start."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from server.adapters.adapter_linear import AdapterLinear
from server.adapters.native_adapter_linear import NativeAdapterLinear
from server.adapters.normal_form import LinearForm, NormalForm
from server.engine.base_model import linear_modules
from server.engine.batch import Batch, Row
from server.engine.paged_attention import ATTENTION_NAME, register_paged_attention
from server.engine.transformers_runner import TransformersRunner
from server.errors import BaseModelError
from server.kernels.dequantized_linear import DequantizedLinear
from server.kernels.native_library import LIBRARY, NativeLibrary
from server.kernels.native_linear import NativeKernels, NativeLinear
from server.kernels.quantised_linear import Linear4bit
from tests.engine.hand_made import sequence

VOCABULARY = 99
BLOCK = 4
SIZES: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def random_model(config: PreTrainedConfig) -> PreTrainedModel:
    register_paged_attention()
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=ATTENTION_NAME
    )
    for name, parameter in model.named_parameters():
        if "sinks" in name:
            nn.init.normal_(parameter)
    model.eval().requires_grad_(False)
    return model


def llama() -> PreTrainedModel:
    return random_model(LlamaConfig(**SIZES, tie_word_embeddings=True))


@cache
def modules() -> dict[str, tuple[int, int]]:
    return linear_modules(llama())


def quantised_llama() -> PreTrainedModel:
    """The same model with every linear but the head in NF4."""
    model = llama()
    for name in set(modules()) - {"lm_head"}:
        dense = model.get_submodule(name)
        out_features, in_features = modules()[name]
        linear = Linear4bit(in_features, out_features, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        linear.load_state_dict(dense.state_dict())
        model.set_submodule(name, linear.to("cpu").requires_grad_(False))
    return model


def adapter(seed: int, *, rank: int, targets: str = "") -> NormalForm:
    """A random LoRA of every linear module whose name contains `targets`."""
    generator = torch.Generator().manual_seed(seed)
    return NormalForm(
        {
            name: LinearForm(
                a=torch.randn(rank, in_features, generator=generator),
                b=torch.randn(out_features, rank, generator=generator) / 10,
            )
            for name, (out_features, in_features) in modules().items()
            if targets in name
        }
    )


def merged(form: NormalForm | None) -> PreTrainedModel:
    """The model with an adapter added to its weights, over transformers' own attention."""
    model = llama()
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
    for name, linear in (form.linears if form is not None else {}).items():
        assert linear.a is not None
        assert linear.b is not None
        model.get_parameter(f"{name}.weight").add_(linear.b @ linear.a)
    model.set_attn_implementation("eager")
    return model


@torch.inference_mode()
def expected(form: NormalForm | None, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after the last token, [vocabulary]."""
    logits: torch.Tensor = merged(form)(input_ids=torch.tensor([list(tokens)])).logits
    return logits[0, -1]


class Texts:
    """Texts that run on one runner, each with its adapter and blocks of its own."""

    def __init__(self, runner: TransformersRunner, texts: Sequence[tuple[NormalForm | None, int]]) -> None:
        generator = torch.Generator().manual_seed(5)
        runner.allocate(64, BLOCK)
        self.runner = runner
        self.forms = [form for form, _ in texts]
        self.sequences = [
            sequence(torch.randint(VOCABULARY, (length,), generator=generator).tolist()) for _, length in texts
        ]
        free = iter((1 + torch.randperm(64, generator=generator)).tolist())
        for one in self.sequences:
            one.blocks = [next(free) for _ in range(-(-len(one.tokens) // BLOCK))]

    def step(self, counts: Mapping[int, int]) -> torch.Tensor:
        """Run so many tokens of these texts, in this order; those that reach their end sample."""
        rows = []
        for index, count in counts.items():
            one = self.sequences[index]
            rows.append(Row(one, one.computed, count, one.computed + count == len(one.tokens), self.forms[index]))
            one.computed += count
        return self.runner.run(Batch(tuple(rows)))

    def assert_as_alone(self, logits: torch.Tensor, indices: Sequence[int]) -> None:
        assert logits.shape == (len(indices), VOCABULARY)
        assert logits.dtype == torch.float32
        for row, index in zip(logits, indices, strict=True):
            alone = expected(self.forms[index], self.sequences[index].tokens)
            torch.testing.assert_close(row, alone, rtol=1e-3, atol=1e-3)


def fingerprint(model: nn.Module) -> str:
    """A hash of every resident tensor."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("order", [[0, 4, 1, 2, 3], [1, 0, 2, 3, 4]])
def test_a_mixed_step_gives_each_row_the_logits_of_its_own_adapter(order: list[int]) -> None:
    a, b = adapter(1, rank=3), adapter(2, rank=8, targets="self_attn")
    texts = Texts(TransformersRunner(llama(), exact=True), [(None, 5), (a, 9), (a, 1), (b, 7), (None, 3)])
    logits = texts.step({index: len(texts.sequences[index].tokens) for index in order})
    texts.assert_as_alone(logits, order)


def test_chunks_and_decodes_of_several_adapters_share_steps() -> None:
    a, b = adapter(1, rank=3), adapter(2, rank=8)
    texts = Texts(TransformersRunner(llama(), exact=True), [(a, 10), (b, 6), (None, 8)])
    assert texts.step({0: 9, 1: 2}).shape == (0, VOCABULARY)
    texts.assert_as_alone(texts.step({0: 1, 1: 4, 2: 3}), [0, 1])
    texts.assert_as_alone(texts.step({2: 5}), [2])


def test_an_adapter_of_the_head_applies_to_its_sampled_rows_only() -> None:
    head, other = adapter(3, rank=4, targets="lm_head"), adapter(4, rank=4, targets="mlp")
    texts = Texts(TransformersRunner(llama(), exact=True), [(head, 6), (head, 4), (None, 5), (other, 3), (head, 2)])
    logits = texts.step({0: 5, 1: 4, 2: 5, 3: 3, 4: 2})
    texts.assert_as_alone(logits, [1, 2, 3, 4])
    texts.assert_as_alone(texts.step({0: 1}), [0])


def test_resident_weights_are_bit_for_bit_the_same_after_adapters_ran() -> None:
    model = llama()
    runner = TransformersRunner(model, exact=True)
    before = fingerprint(model)
    texts = Texts(runner, [(adapter(1, rank=3), 9), (None, 4), (adapter(2, rank=8), 5)])
    texts.step({0: 9, 1: 4, 2: 5})
    assert fingerprint(model) == before


def test_every_linear_is_wrapped_and_4bit_ones_are_dequantised_where_arithmetic_is_exact() -> None:
    for exact, kind in ((True, DequantizedLinear), (False, Linear4bit)):
        model = llama()
        quantised = Linear4bit(48, 32, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        quantised.load_state_dict(model.get_submodule("model.layers.0.mlp.down_proj").state_dict())
        model.set_submodule("model.layers.0.mlp.down_proj", quantised.to("cpu").requires_grad_(False))
        TransformersRunner(model, exact=exact)
        wrapped = {name: module for name, module in model.named_modules() if isinstance(module, AdapterLinear)}
        assert set(wrapped) == set(modules())
        assert type(wrapped["model.layers.0.mlp.down_proj"].base) is kind
        assert type(wrapped["model.layers.1.mlp.down_proj"].base) is nn.Linear


@pytest.mark.skipif(not LIBRARY.is_file(), reason=f"{LIBRARY.name} was not built (no C++ compiler?)")
def test_native_kernels_replace_the_4bit_linears_free_them_and_say_what_the_reference_says() -> None:
    texts = [(adapter(1, rank=3), 9), (None, 4), (adapter(2, rank=8), 5), (adapter(3, rank=5, targets="mlp"), 1)]
    model, plain = quantised_llama(), llama()
    quantised = [module for module in model.modules() if isinstance(module, Linear4bit)]
    native = TransformersRunner(model, exact=True, native=NativeKernels(NativeLibrary(), threads=2))
    assert len(quantised) == 14
    assert sum(module.weight.nbytes for module in quantised) == 0
    wrapped = {name for name, module in model.named_modules() if isinstance(module, NativeAdapterLinear)}
    assert wrapped == set(modules()) - {"lm_head"}
    for name in wrapped:
        # bitsandbytes' own dequantisation mistakes the scales of rows that are no multiple of a block.
        packed = model.get_submodule(name).base
        assert isinstance(packed, NativeLinear)
        plain.get_parameter(f"{name}.weight").copy_(packed.dequantized())
    counts = {0: 9, 1: 4, 2: 5, 3: 1}
    ours, theirs = (Texts(runner, texts).step(counts) for runner in (native, TransformersRunner(plain, exact=True)))
    assert (ours - theirs).norm() < 2e-3 * theirs.norm()


def test_the_probe_leaves_the_cache_shapes_and_the_paged_attention_behind() -> None:
    model = llama()
    runner = TransformersRunner(model, exact=True)
    assert runner.page_bytes(1) == 2 * 2 * 2 * 8 * 4
    assert model.config._attn_implementation == ATTENTION_NAME


def test_a_window_shorter_than_the_probe_is_no_reason_to_refuse() -> None:
    TransformersRunner(random_model(MistralConfig(**SIZES, sliding_window=3)), exact=True)


def test_a_model_whose_attention_needs_more_than_the_interface_carries_is_refused() -> None:
    sinks = GptOssConfig(**SIZES, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(BaseModelError, match=r"'gpt_oss' gives other logits .* attention interface does not carry"):
        TransformersRunner(random_model(sinks), exact=True)


def test_a_model_that_does_not_use_the_interface_is_refused() -> None:
    with pytest.raises(BaseModelError, match="'bloom' never called the attention interface"):
        TransformersRunner(random_model(BloomConfig(vocab_size=99, hidden_size=32, n_layer=1, n_head=4)), exact=True)


def test_a_model_whose_logits_are_no_numbers_is_refused() -> None:
    model = llama()
    model.get_parameter("model.norm.weight").fill_(float("nan"))
    with pytest.raises(BaseModelError, match="gives other logits"):
        TransformersRunner(model, exact=True)
