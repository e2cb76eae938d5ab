"""Packing: rows are full, and examples in one row learn as if each were alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.training.data.encoded import IGNORED, Encoded
from server.training.data.packing import first_fit_decreasing
from server.training.data.rows import Collator, Rows
from tests.tiny_models import CONFIGS, VOCABULARY, write_tiny_model

# Sums of float32 in another order; losses here are near 6, and the largest gradients between 0.1 and 1.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 5e-6, 1e-5


@given(st.lists(st.integers(0, 50)), st.integers(50, 90))
def test_every_example_is_in_one_row_and_no_row_is_too_long(lengths: list[int], capacity: int) -> None:
    rows = first_fit_decreasing(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
    # First fit: at most one row is half empty.
    assert sum(sum(lengths[index] for index in row) * 2 < capacity for row in rows) <= 1


@given(st.lists(st.integers(0, 50)), st.integers(50, 90))
def test_it_is_first_fit_decreasing(lengths: list[int], capacity: int) -> None:
    """Against the definition, written out."""
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        for row in rows:
            if sum(lengths[other] for other in row) + lengths[index] <= capacity:
                row.append(index)
                break
        else:
            rows.append([index])
    assert first_fit_decreasing(lengths, capacity) == rows


@pytest.mark.parametrize("length", [-1, 11])
def test_what_fits_no_row_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="cut the examples first"):
        first_fit_decreasing([length], 10)


def test_positions_begin_again_with_each_example_and_nothing_is_foretold_across() -> None:
    examples = [Encoded.of([5, 6, 7], [True] * 3), Encoded.of([8, 9], [False, True])]
    row = Rows(examples, [[0, 1]])[0]
    assert row["input_ids"] == [5, 6, 7, 8, 9]
    assert row["position_ids"] == [0, 1, 2, 0, 1]
    assert row["labels"] == [IGNORED, 6, 7, IGNORED, 9]


def test_filling_is_neither_learnt_nor_of_an_example() -> None:
    examples = [Encoded.of([5, 6, 7], [True] * 3), Encoded.of([8, 9], [False, True])]
    rows = list(Rows(examples, [[0], [1]]))  # type: ignore[call-overload]
    packed = Collator(padding=1, packed=True)(rows)
    assert packed["input_ids"].tolist() == [[5, 6, 7], [8, 9, 1]]
    assert packed["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]
    assert packed["position_ids"].tolist() == [[0, 1, 2], [0, 1, 0]]
    assert "attention_mask" not in packed
    alone = Collator(padding=1, packed=False)(rows)
    assert alone["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert "position_ids" not in alone


def examples() -> list[Encoded]:
    chance = torch.Generator().manual_seed(7)
    lengths = [3, 31, 12, 1, 20, 9, 26]
    return [
        Encoded.of(
            torch.randint(0, VOCABULARY - 4, (length,), generator=chance).tolist(),
            [place > length // 3 for place in range(length)],
        )
        for length in lengths
    ]


def loss_and_gradients(model: PreTrainedModel, batches: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """The mean loss of the learnt tokens of all batches, and its gradient, by the model's own loss."""
    learnt = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, num_items_in_batch=learnt).loss
        loss.backward()
        total += loss.item()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return total, torch.cat(gradients)


# Gemma 2 caps its scores, which sdpa cannot.
@pytest.mark.parametrize(
    ("kind", "attention"),
    [(kind, way) for kind in sorted(CONFIGS) for way in ("sdpa", "eager") if (kind, way) != ("gemma2", "sdpa")],
)
def test_packed_and_alone_give_the_same_loss_and_gradients(kind: str, attention: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        write_tiny_model(kind, tmp_path), dtype=torch.float32, attn_implementation=attention
    )
    assert model.config.use_cache, "the boundaries must hold without anybody changing the model"
    data = examples()
    packed = Rows(data, first_fit_decreasing([len(example) for example in data], 48))
    alone = Rows(data, [[place] for place in range(len(data))])
    assert 1 < len(packed) < len(alone)
    fill, single = Collator(padding=0, packed=True), Collator(padding=0, packed=False)
    in_rows = loss_and_gradients(model, [fill([packed[place] for place in range(len(packed))])])
    together = loss_and_gradients(model, [single([alone[place] for place in range(len(alone))])])
    by_itself = loss_and_gradients(
        model, [single([alone[place]]) for place in range(len(alone)) if len(data[place]) > 1]
    )
    for loss, gradient in (in_rows, together):
        assert loss == pytest.approx(by_itself[0], abs=LOSS_TOLERANCE)
        torch.testing.assert_close(gradient, by_itself[1], atol=GRADIENT_TOLERANCE, rtol=0)
    # The comparison would see a leak: without the positions the loss is another.
    leaking = fill([packed[place] for place in range(len(packed))])
    del leaking["position_ids"]
    assert loss_and_gradients(model, [leaking])[0] != pytest.approx(by_itself[0], abs=100 * LOSS_TOLERANCE)
