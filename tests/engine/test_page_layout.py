"""Every layer's keys and values have a place of their own in a page."""

import pytest
import torch

from server.engine.page_layout import LayerShape, PageLayout

F32, F16 = torch.float32, torch.float16
MODELS = {
    "one shape": [LayerShape(2, 8, F32)] * 3,
    "rows of no round size": [LayerShape(1, 5, F16)] * 2,
    "wide and narrow layers": [LayerShape(2, 16, F32), LayerShape(1, 48, F32), LayerShape(2, 16, F32)],
    "two formats": [LayerShape(2, 8, F32), LayerShape(1, 8, torch.bfloat16)],
}


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("shapes", MODELS.values(), ids=MODELS)
def test_no_byte_belongs_to_two_slots(shapes: list[LayerShape], block_size: int) -> None:
    layout = PageLayout(dict(enumerate(shapes)), block_size)
    memory = torch.zeros(4, layout.page_bytes, dtype=torch.uint8)
    slots = [(page, offset) for page in (1, 3) for offset in range(block_size)]
    written = 0
    for layer, keys, values in layout.views(memory.view(-1)):
        shape = shapes[layer]
        for view in (keys, values):
            assert view.shape[1:] == (shape.kv_heads, shape.head_dim)
            assert view.data_ptr() % 64 == memory.data_ptr() % 64
            for page, offset in slots:
                row = view[page * layout.slots_per_page(layer) + offset].view(torch.uint8)
                assert not row.any()
                row.fill_(1)
                written += shape.row_bytes
    assert int(memory.count_nonzero()) == written
    assert not memory[[0, 2]].any()


def test_a_page_costs_what_its_tokens_cost_where_rows_are_aligned() -> None:
    layout = PageLayout(dict(enumerate([LayerShape(3, 64, F32)] * 30)), 16)
    assert layout.page_bytes == 16 * 30 * 2 * 3 * 64 * 4
    assert layout.strides == {16 * 30 * 2}
    assert len(PageLayout({0: LayerShape(2, 16, F32), 1: LayerShape(1, 16, F32)}, 16).strides) == 2
