"""A native linear says what the reference says, for every shape, mix of adapters and instruction set."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from hypothesis import given, settings
from hypothesis import strategies as st

from server.adapters.adapter_linear import AdapterBatch, Segment
from server.adapters.native_adapter_linear import NativeAdapterLinear
from server.adapters.normal_form import LinearForm, NormalForm
from server.kernels.dequantized_linear import DequantizedLinear
from server.kernels.native_linear import NativeLinear, row_layout
from tests.kernels.native_cases import NAME, Case, dense, expected, kernels, weight_of
from tests.kernels.test_dequantized_linear import quantised

# Of the whole result, by root mean square: rounding to 12 and 13 bits costs 1.4e-4, a lost column or scale percents.
TOLERANCE = 3e-4
MIXED = (
    (1, 8, ()),
    (2, None, ()),
    (1, 16, ("bias",)),
    (1, 3, ("in_scale", "scale", "out_scale")),
    (0, 4, ()),
    (1, 0, ("bias",)),
)

PARTS = st.lists(st.sampled_from(["in_scale", "scale", "out_scale", "bias"]), unique=True).map(tuple)
RANKS = st.one_of(st.none(), st.integers(0, 40), st.sampled_from([64, 128, 256]))
CASES = st.builds(
    Case,
    in_features=st.one_of(st.integers(1, 300), st.sampled_from([64, 128, 576])),
    out_features=st.one_of(st.integers(1, 80), st.sampled_from([16, 192])),
    segments=st.lists(st.tuples(st.integers(0, 20), RANKS, PARTS), min_size=1, max_size=5).map(tuple),
    kind=st.sampled_from(["nf4", "fp4"]),
    block_size=st.sampled_from([32, 64, 128, 256]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)


def run(case: Case, instruction_set: str | None = None, *, threads: int = 1) -> torch.Tensor:
    module = NativeLinear(case.linear(), kernels(instruction_set, threads=threads))
    y: torch.Tensor = NativeAdapterLinear(module, NAME, case.batch())(case.x()[None])[0]
    return y


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-30)) if wanted.numel() else 0.0


@settings(max_examples=60, deadline=None)
@given(case=CASES, threads=st.integers(1, 3))
def test_any_linear_and_batch(instruction_set: str, case: Case, threads: int) -> None:
    got, wanted = run(case, instruction_set, threads=threads), expected(case)
    assert got.shape == wanted.shape
    # Of a result of few numbers the error can lie in any of them, and a sum may cancel.
    assert error(got, wanted) < TOLERANCE if wanted.numel() > 500 else error(got, wanted) < 20 * TOLERANCE


@settings(max_examples=40, deadline=None)
@given(case=CASES)
def test_instruction_sets_agree_with_the_portable_one_closer_than_rounding(instruction_set: str, case: Case) -> None:
    portable = run(case, "portable")
    torch.testing.assert_close(
        run(case, instruction_set),
        portable,
        rtol=1e-4,
        atol=2e-5 * float(portable.abs().max() if portable.numel() else 0),
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 127, 128, 129, 512, 2048])
def test_any_number_of_rows(instruction_set: str, rows: int) -> None:
    if instruction_set == "portable" and rows > 200:
        pytest.skip("too slow to be of use")
    case = Case(576, 200, ((rows // 2, 16, ()), (rows - rows // 2, None, ())), bias=True)
    assert error(run(case, instruction_set), expected(case)) < TOLERANCE


@pytest.mark.parametrize("in_features", [1, 7, 32, 63, 64, 65, 96, 100, 127, 192, 1000])
def test_rows_need_not_end_with_a_quantisation_block(instruction_set: str, in_features: int) -> None:
    case = Case(in_features, 130, ((9, None, ()),))
    assert error(run(case, instruction_set), expected(case)) < 3 * TOLERANCE


def test_threads_do_not_change_the_answer(instruction_set: str) -> None:
    case = Case(576, 200, MIXED, bias=True)
    assert torch.equal(run(case, instruction_set, threads=1), run(case, instruction_set, threads=4))


def test_a_row_does_not_depend_on_its_company(instruction_set: str) -> None:
    """As far as sums may be taken in another order: tiles of rows use the same integers."""
    whole = Case(576, 200, ((1, 8, ()), (40, None, ()), (1, 16, ())))
    alone = NativeLinear(whole.linear(), kernels(instruction_set))(whole.x()[5:6])
    torch.testing.assert_close(run(whole, instruction_set)[5:6], alone, rtol=1e-5, atol=1e-5)


def test_unpacking_gives_the_dequantised_weight_bit_for_bit(instruction_set: str) -> None:
    for case in (Case(576, 200, ()), Case(100, 37, (), kind="fp4"), Case(192, 64, (), block_size=128)):
        module = case.linear()
        assert torch.equal(NativeLinear(module, kernels(instruction_set)).dequantized(), weight_of(module))


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_weights_that_bitsandbytes_quantised_are_read_as_it_reads_them(
    instruction_set: str, kind: str, double: bool
) -> None:
    module = quantised(128, 64, kind=kind, double=double, bias=True)
    native, x = NativeLinear(module, kernels(instruction_set)), torch.randn(5, 128)
    state = module.weight.quant_state  # type: ignore[attr-defined]
    assert torch.equal(native.dequantized(), dequantize_4bit(module.weight.data, state))
    assert error(native(x), DequantizedLinear(module)(x).double()) < TOLERANCE


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so_and_in_its_row(instruction_set: str, bad: float) -> None:
    case = Case(576, 40, ((6, None, ()),))
    x = case.x()
    clean = NativeLinear(case.linear(), kernels(instruction_set))(x)
    x[2, 100] = bad
    got = NativeLinear(case.linear(), kernels(instruction_set))(x)
    assert not torch.isfinite(got[2]).any()
    others = [0, 1, 3, 4, 5]
    assert torch.equal(got[others], clean[others])


@pytest.mark.parametrize("factor", [0.0, 1e-38, 1e-20, 1e20])
def test_any_magnitude(instruction_set: str, factor: float) -> None:
    case = Case(128, 40, ((3, None, ()),))
    module = NativeLinear(case.linear(), kernels(instruction_set))
    got = module(case.x() * factor).double()
    wanted = dense(case.linear())(case.x().double() * factor)
    assert float((got - wanted).abs().max()) <= TOLERANCE * max(float(wanted.abs().max()), 1e-28)


def test_the_4bit_weight_is_not_kept_and_a_stand_in_answers_for_it(instruction_set: str) -> None:
    case = Case(576, 192, ())
    source = case.linear()
    module = NativeLinear(source, kernels(instruction_set))
    resident = sum(buffer.nbytes for buffer in module.buffers())
    assert resident == 576 * 192 // 2 + 4 * 576 * 192 // 64
    assert [*module.parameters()] == []
    assert (module.weight.shape, module.weight.dtype, module.weight.device.type) == ((192, 576), torch.float32, "cpu")
    assert module.weight.isnan().all()
    assert module.weight.untyped_storage().nbytes() == 4


def test_a_layout_is_built_once_for_steps_of_the_same_rows(instruction_set: str) -> None:
    case = Case(64, 16, ((2, 4, ()), (1, None, ())))
    batch = case.batch()
    layer = NativeAdapterLinear(NativeLinear(case.linear(), kernels(instruction_set)), NAME, batch)
    first = layer(case.x()[None])
    layout = layer._layout
    batch.compose([*batch.rows], [])
    assert torch.equal(layer(case.x()[None]), first)
    assert layer._layout is layout
    other = replace(case, segments=((1, 4, ()), (2, None, ())))
    batch.compose(other.batch().rows, [])
    layer(case.x()[None])
    assert layer._layout is not layout


def test_an_adapter_may_leave_a_module_alone_and_its_rows_may_be_none(instruction_set: str) -> None:
    case = Case(64, 16, ((4, None, ()),))
    module = NativeLinear(case.linear(), kernels(instruction_set))
    other, form = NormalForm({"other": LinearForm()}), NormalForm({NAME: LinearForm()})
    batch = AdapterBatch(rows=[Segment(0, 2, other), Segment(2, 2, form), Segment(3, 4, form)])
    assert torch.equal(NativeAdapterLinear(module, NAME, batch)(case.x()[None])[0], module(case.x()))
    assert NativeAdapterLinear(module, NAME, AdapterBatch())(torch.empty(1, 0, 64)).shape == (1, 0, 16)


def test_factors_need_not_be_contiguous(instruction_set: str) -> None:
    case = Case(64, 40, ((3, 8, ()),))
    layer = NativeLinear(case.linear(), kernels(instruction_set))
    (segment,) = case.batch().rows
    form = segment.form.linears[NAME]
    assert form.a is not None
    assert form.b is not None
    turned = LinearForm(a=form.a.t().contiguous().t(), b=form.b.t().contiguous().t())
    batch = AdapterBatch(rows=[Segment(0, 3, NormalForm({NAME: turned}))])
    assert torch.equal(NativeAdapterLinear(layer, NAME, batch)(case.x()[None])[0], run(case, instruction_set))


def test_what_does_not_fit_is_refused_before_the_call(instruction_set: str) -> None:
    module = NativeLinear(Case(64, 16, ()).linear(), kernels(instruction_set))
    with pytest.raises(ValueError, match=r"fp32 \[..., 64\] is needed"):
        module(torch.zeros(2, 63))
    with pytest.raises(ValueError, match="fp32"):
        module(torch.zeros(2, 64, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="has not the 3 rows"):
        module.adapted(torch.zeros(2, 64), row_layout([(0, 3, None)]))
    with pytest.raises(ValueError, match="does not begin at row 1"):
        row_layout([(0, 1, None), (2, 3, None)])
    for form, name in (
        (LinearForm(a=torch.zeros(4, 63), b=torch.zeros(16, 4)), "a is"),
        (LinearForm(a=torch.zeros(4, 64), b=torch.zeros(16, 5)), "b is"),
        (LinearForm(in_scale=torch.zeros(16)), "in_scale is"),
        (LinearForm(out_scale=torch.zeros(16, dtype=torch.bfloat16)), "out_scale is"),
        (LinearForm(bias=torch.zeros(64)), "bias is"),
    ):
        with pytest.raises(ValueError, match=name):
            module.descriptor(form)
