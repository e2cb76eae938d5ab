"""Which tokens of a conversation the assistant speaks, found without knowing the chat template.

An answer is by definition what follows the text that the server would send for the turns before it. So a turn is
learnt from two writings: P, the turns before it up to where the assistant speaks, and W, the turns up to and with it.
Where the tokens of W begin with those of P, the rest is the answer. Where all earlier answers' tokens begin the last
one's, one row learns them all; where they do not (a template that drops the thoughts of earlier turns, or moves the
system prompt to the last question) each answer is a row of its own, which is what the model sees when it answers.
What neither way makes certain is refused.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from transformers import PreTrainedTokenizerBase

from server.errors import InvalidTrainingData
from server.training.data.conversation_writer import ConversationWriter, Tools
from server.training.data.encoded import Encoded
from server.training.example import Message

_SPACE: Final = " \t\r\n"


class Answer(NamedTuple):
    """Token ids of a conversation up to the end of an answer, whose first `prompt` tokens are what comes before it."""

    ids: tuple[int, ...]
    prompt: int


class ChatMasks:
    """Finds the answers in conversations, for one tokenizer and its template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._writer = ConversationWriter(tokenizer)
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        self._ends = tuple(
            {str(token) for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
        )

    def encoded(self, messages: Sequence[Message], tools: Tools = ()) -> list[Encoded]:
        """A conversation as one row, or as one row an answer; the learnt tokens are the answers and their ends.

        Assistant turns of weight 0 are context. What follows the last learnt turn is left out.

        Raises:
            InvalidTrainingData: the template refuses the messages, or the answers in its text cannot be told apart
                from what is around them; the message names the template.
        """
        turns = [turn for turn, message in enumerate(messages) if message.role == "assistant" and message.weight]
        answers = [self.answer(messages[: turn + 1], tools) for turn in turns]
        last = answers[-1]
        if all(last.ids[: len(answer.ids)] == answer.ids for answer in answers):
            learnt = [False] * len(last.ids)
            for answer in answers:
                learnt[answer.prompt : len(answer.ids)] = [True] * (len(answer.ids) - answer.prompt)
            return [Encoded.of(last.ids, learnt)]
        return [
            Encoded.of(answer.ids, [place >= answer.prompt for place in range(len(answer.ids))]) for answer in answers
        ]

    def answer(self, messages: Sequence[Message], tools: Tools = ()) -> Answer:
        """The last message of a conversation, as the answer to those before it.

        Raises:
            InvalidTrainingData: as `encoded`.
        """
        message = messages[-1]
        whole = self._writer.written(messages, tools)
        prompt = self._writer.written(messages[:-1], tools, prompt=True)
        if whole.startswith(prompt):
            spoken = self._spoken(message, whole[len(prompt) :])
            found = self._after(prompt, prompt + spoken)
            marked = self._marked(messages, tools, found.ids)
            # A template's own tags may leave out what the server writes for the model, and never take more.
            return found if marked is None else Answer(found.ids, max(found.prompt, marked))
        ids = self._ids(self._ended(whole))
        if (begin := self._marked(messages, tools, ids)) is None:
            raise InvalidTrainingData(
                f"{self._writer.name} writes an answer of the file otherwise than after its own prompt for one, so the "
                "tokens to learn cannot be told exactly: use a template whose conversations begin with their prompts, "
                "or one with {% generation %} tags"
            )
        self._spoken(message, self._decoded(ids[begin:]))
        return Answer(ids, begin)

    def _after(self, prompt: str, whole: str) -> Answer:
        before, ids = self._ids(prompt), self._ids(whole)
        if ids[: len(before)] == before:
            return Answer(ids, len(before))
        # Tokens run across the boundary. The server sends the prompt's own, and the model goes on from there.
        joined = before + self._ids(whole[len(prompt) :])
        if self._decoded(joined) != self._decoded(ids):
            raise InvalidTrainingData(
                f"{self._writer.name} lets a token run across the beginning of an answer, and the tokenizer cannot "
                "split it there: end the template's generation prompt with a special token or a line break"
            )
        return Answer(joined, len(before))

    def _ended(self, text: str) -> str:
        """The text up to the token that ends the answer. Where the template writes none, the end of sequence does."""
        bare = text.rstrip(_SPACE)
        if bare.endswith(self._ends):
            return bare
        end = self._tokenizer.eos_token
        if end is None:
            raise InvalidTrainingData(
                f"{self._writer.name} ends an answer with no special token, and the tokenizer has no eos_token: "
                "the model could not learn to stop; give the tokenizer one"
            )
        return f"{bare}{end}"

    def _spoken(self, message: Message, answer: str) -> str:
        """What the model must say of the text from an answer on; a template that leaves out what it says is refused."""
        content = message.content.strip()
        last_line = content.rpartition("\n")[2].strip()
        names = [str(call["function"]["name"]) for call in message.tool_calls]
        for missing in (text for text in (last_line, *names) if text not in answer):
            raise InvalidTrainingData(
                f"{self._writer.name} leaves {missing[:80]!r} out of an assistant turn, so it cannot be learnt: "
                "change the template, or remove the line"
            )
        if message.tool_calls:
            return self._ended(answer)
        # Some templates write the beginning of the next turn, too: the first end after the content is the answer's.
        written = content if content in answer else last_line
        after = answer.index(written) + len(written)
        ends = [(place, -len(end)) for end in self._ends if (place := answer.find(end, after)) >= 0]
        if not ends:
            return self._ended(answer)
        place, length = min(ends)
        return answer[: place - length]

    def _marked(self, messages: Sequence[Message], tools: Tools, ids: tuple[int, ...]) -> int | None:
        """Where the last answer begins by the template's own tags, as an index of `ids`; None where they do not say."""
        if (marks := self._writer.marked(messages, tools)) is None:
            return None
        written, mask = marks
        # The text may be longer than `ids` by what follows the end, or shorter by an end that was added.
        common = min(len(written), len(ids) - 1)
        if tuple(written[:common]) != ids[:common]:
            return None
        begins = [place for place, mark in enumerate(mask) if mark and not (place and mask[place - 1])]
        spoken = sum(message.role == "assistant" for message in messages)
        return begins[-1] if len(begins) == spoken and begins[-1] < len(ids) else None

    def _ids(self, text: str) -> tuple[int, ...]:
        """The template writes the special tokens itself, so none are added: as the server does it."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
