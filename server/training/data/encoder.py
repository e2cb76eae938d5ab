"""Examples to tokens."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from server.errors import InvalidTrainingData
from server.training.data.chat_masks import ChatMasks
from server.training.data.encoded import Encoded
from server.training.example import ChatExample, CompletionExample, PreferenceExample


class EncodedPreference(NamedTuple):
    """Token ids of a prompt and of the two answers to it, each with its end."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


class Encoder:
    """Encodes examples as the server would see them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._masks = ChatMasks(tokenizer)

    @property
    def padding(self) -> int:
        """The id of the token that fills rows up; it is never learnt, so that the end of sequence serves as well."""
        for token in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        return 0

    def rows(self, example: ChatExample | CompletionExample) -> list[Encoded]:
        """An example as one row of any length, or as one an answer where the template demands it.

        Raises:
            InvalidTrainingData: its answers cannot be told exactly; see `ChatMasks`.
        """
        if isinstance(example, ChatExample):
            return self._masks.encoded(example.messages, example.tools)
        return [self._completed(example)]

    def text(self, text: str) -> Encoded:
        """A plain text, learnt whole."""
        ids = self._with_end(self._tokenizer.encode(text))
        return Encoded.of(ids, [True] * len(ids))

    def preference(self, example: PreferenceExample) -> EncodedPreference:
        """A conversation with its two endings.

        Raises:
            InvalidTrainingData: as `rows`.
        """
        chosen, rejected = (
            self._masks.answer([*example.messages, *ending], example.tools)
            for ending in (example.preferred, example.rejected)
        )
        begin = min(chosen.prompt, rejected.prompt)
        if chosen.ids[:begin] != rejected.ids[:begin]:
            raise InvalidTrainingData("the chat template writes the two endings after different prompts; change it")
        return EncodedPreference(chosen.ids[:begin], chosen.ids[begin:], rejected.ids[begin:])

    def _completed(self, example: CompletionExample) -> Encoded:
        before = self._tokenizer.encode(example.prompt)
        ids = self._tokenizer.encode(example.prompt + example.completion)
        if ids[: len(before)] != before:
            # A token runs across the boundary. The server sends the prompt's own, and the model goes on from there.
            whole = self._decoded(ids)
            ids = before + self._tokenizer.encode(example.completion, add_special_tokens=False)
            if self._decoded(ids) != whole:
                raise InvalidTrainingData(
                    "a token runs across the end of the prompt, and the tokenizer cannot split it there: "
                    "move the space between them to the completion"
                )
        ids = self._with_end(ids)
        return Encoded.of(ids, [place >= len(before) for place in range(len(ids))])

    def _with_end(self, ids: list[int]) -> list[int]:
        end = self._tokenizer.eos_token_id
        if not isinstance(end, int):
            raise InvalidTrainingData(
                "the tokenizer has no eos_token, so the model could not learn to stop; give it one"
            )
        return ids if ids and ids[-1] == end else [*ids, end]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))
