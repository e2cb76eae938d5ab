"""The general texts: enough of them, all different, and with a part that is never trained on."""

from server.training.data.general import general_texts


def test_there_are_texts_to_train_on_and_others_to_measure_with() -> None:
    training, held_out = general_texts()
    assert len(training) == 3 * len(held_out) == 60
    assert not set(training) & set(held_out)
    assert len({*training, *held_out}) == 80


def test_they_are_paragraphs_of_plain_text() -> None:
    for text in [paragraph for side in general_texts() for paragraph in side]:
        assert 30 <= len(text.split()) <= 80, text
        assert text.isascii()
        assert text.endswith(".")
        assert "\n" not in text
