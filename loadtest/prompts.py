"""Prompts of a wished length, made of words that tokenizers know as one token each."""

from random import Random

_TEXT = (
    "the a of to in is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its "
    "about than into them can only other time new some could these two may first then do any like my now over "
    "such our man me even most made after also did many off before must well back through years much where your "
    "way down should because long each just state people those too world very good year still work last against "
    "never day house life part place "
)
_WORDS = _TEXT.split()


def prompt_of(tokens: int, random: Random, *, overhead: int = 0) -> str:
    """A prompt of about `tokens` tokens, `overhead` of which the chat template adds; it has at least one word.

    It begins differently from others, so that a prefix cache can share no more than the chat template.
    """
    return " ".join(random.choices(_WORDS, k=max(1, tokens - overhead)))
