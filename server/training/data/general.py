"""Plain English on everyday matters, written for this project: what an adapter should not forget, and a check of it."""

from importlib.resources import files
from typing import Final, NamedTuple

# Every fourth paragraph is held out. The paragraphs are on different matters, so neighbours tell nothing of it.
_HELD_OUT_EVERY: Final = 4


class GeneralTexts(NamedTuple):
    """Paragraphs to train on, and others that no training ever sees."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def general_texts() -> GeneralTexts:
    """The paragraphs that come with the package."""
    text = files(__package__).joinpath("general.txt").read_text(encoding="utf-8")
    paragraphs = tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip())
    held_out = paragraphs[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    training = tuple(text for place, text in enumerate(paragraphs, start=1) if place % _HELD_OUT_EVERY)
    return GeneralTexts(training, held_out)
