"""A code book's integers are as fine as sums of 32 bits allow."""

import pytest
import torch
from bitsandbytes.functional import get_4bit_type

from server.kernels.code_book import CodeBook


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_the_products_of_a_chunk_cannot_overflow(kind: str) -> None:
    book = CodeBook.of(get_4bit_type(kind, device="cpu"))
    assert 64 * int(book.rounded.abs().max()) * book.activation_limit < 2**31
    assert book.activation_limit < 2**15
    assert book.rounded[book.zero_code] == 0
    assert book.values[book.zero_code] == 0


@pytest.mark.parametrize(("kind", "bound"), [("nf4", 1e-4), ("fp4", 1e-6)])
def test_its_integers_are_close_to_the_values(kind: str, bound: float) -> None:
    book = CodeBook.of(get_4bit_type(kind, device="cpu"))
    assert float((book.rounded / book.limit - book.values).norm() / book.values.norm()) < bound


def test_what_is_no_code_book_is_refused() -> None:
    for values in (torch.zeros(15), torch.linspace(0, 2, 16), torch.linspace(0.1, 1, 16)):
        with pytest.raises(ValueError, match="zero among them"):
            CodeBook.of(values)
