"""How one target wants its prompts written and its answers ended."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenizers import Tokenizer

from adapters_store import ChecksumMismatch, MissingFiles, Version
from adapters_store.adapter_files import PROMPTING_FILE
from adapters_store.adapter_prompting import MAX_PROMPTING_BYTES, AdapterPrompting, AddedToken, decode_prompting
from adapters_store.atomic_file import read_limited
from adapters_store.errors import InvalidAdapter
from adapters_store.quoting import quoted
from server.api.routing.model_names import Target
from server.api.text.added_tokens import with_added_tokens
from server.api.text.chat_template import AdapterTemplate, BaseTemplateWithTokens, ChatTemplate, TemplateProcesses
from server.api.text.tokenization import Tokenization

_MOST_PROMPTINGS: Final = 256
# A tokenizer takes tens of megabytes, and adapters of one family share theirs.
_MOST_TOKENIZERS: Final = 8


@dataclass(frozen=True)
class Prompting:
    """The tokenizer and chat template of a target, with what its answers end at and how it likes to be sampled.

    `stops` are stop strings beside the request's own, `stop_token_ids` end an answer as the base's end-of-text does.
    `sampling` holds defaults for request fields that the client left out, by the field's name (`temperature`,
    `top_p`, `top_k`, `repetition_penalty`, `min_p`).
    """

    tokenization: Tokenization
    stops: tuple[str, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)
    stop_token_ids: tuple[int, ...] = ()


class Promptings:
    """The prompting of every target: the base's own, and those that adapter versions bring along.

    Those of versions are read off the event loop when first needed, once however many requests ask, and the most
    recently used are kept.
    """

    def __init__(self, base: Tokenization, *, embedding_rows: int, eos_token_ids: tuple[int, ...] = ()) -> None:
        self._base = Prompting(base)
        self._embedding_rows = embedding_rows
        self._eos_token_ids = eos_token_ids
        self._processes = TemplateProcesses()
        self._tokenizers: OrderedDict[tuple[AddedToken, ...], Tokenizer] = OrderedDict()
        self._known: OrderedDict[str, asyncio.Task[Prompting]] = OrderedDict()

    async def of(self, target: Target) -> Prompting:
        """The prompting of a target.

        Raises:
            MissingFiles, ChecksumMismatch: a version's `prompting.json` is damaged.
            InvalidAdapter: what a version brings cannot be served on this base.
        """
        version = target.version
        if version is None or version.metadata.prompting is None:
            return self._base
        known = self._known.get(version.digest)
        if known is None:
            known = self._known[version.digest] = asyncio.create_task(self._load(version))
            if len(self._known) > _MOST_PROMPTINGS:
                self._known.popitem(last=False)
        self._known.move_to_end(version.digest)
        try:
            # A client that goes away takes the load from nobody else.
            prompting = await asyncio.shield(known)
        except Exception:
            if self._known.get(version.digest) is known:
                del self._known[version.digest]
            raise
        self._used(prompting.tokenization.tokenizer)
        return prompting

    def close(self) -> None:
        """End the processes that render templates."""
        self._processes.close()

    async def _load(self, version: Version) -> Prompting:
        brought = await asyncio.to_thread(_read, version)
        tokenizer = await self._tokenizer(brought.added_tokens)
        base = self._base.tokenization
        special_tokens = {**base.special_tokens, **brought.special_tokens}
        template: ChatTemplate
        if brought.chat_template is not None:
            template = AdapterTemplate(self._processes, brought.chat_template, special_tokens)
        else:
            template = BaseTemplateWithTokens(base.template, brought.special_tokens)
        added = (len(token.content) for token in brought.added_tokens)
        return Prompting(
            tokenization=Tokenization(
                tokenizer,
                template,
                special_tokens,
                base.threads,
                longest_token=max((base.longest_token, *added)),
            ),
            stops=brought.stop_strings,
            stop_token_ids=self._stop_token_ids(tokenizer, brought),
            sampling=brought.sampling,
        )

    async def _tokenizer(self, tokens: tuple[AddedToken, ...]) -> Tokenizer:
        base = self._base.tokenization.tokenizer
        if not tokens:
            return base
        if tokens not in self._tokenizers:
            made = await self._base.tokenization.threads.run(with_added_tokens, base, tokens, self._embedding_rows)
            # Another version of the same tokens may have been first.
            self._tokenizers.setdefault(tokens, made)
            if len(self._tokenizers) > _MOST_TOKENIZERS:
                self._forget(self._tokenizers.popitem(last=False)[1])
        self._tokenizers.move_to_end(tokens)
        return self._tokenizers[tokens]

    def _used(self, tokenizer: Tokenizer) -> None:
        for tokens, kept in self._tokenizers.items():
            if kept is tokenizer:
                self._tokenizers.move_to_end(tokens)
                return

    def _forget(self, tokenizer: Tokenizer) -> None:
        """Drop what would keep a tokenizer in memory."""
        if tokenizer is self._base.tokenization.tokenizer:
            return
        for digest, load in list(self._known.items()):
            loaded = load.done() and not load.cancelled() and load.exception() is None
            if loaded and load.result().tokenization.tokenizer is tokenizer:
                del self._known[digest]

    def _stop_token_ids(self, tokenizer: Tokenizer, brought: AdapterPrompting) -> tuple[int, ...]:
        ids = set(brought.stop_token_ids)
        eos = brought.special_tokens.get("eos_token")
        if eos is not None:
            token_id = tokenizer.token_to_id(eos)
            if token_id is None:
                raise InvalidAdapter(
                    f"the adapter's eos_token {quoted(eos)} is no token of its tokenizer: mend it and publish again",
                    param="model",
                )
            ids.add(token_id)
        for token_id in ids:
            if token_id >= self._embedding_rows:
                raise InvalidAdapter(
                    f"the adapter ends at token {token_id}, but the base's ids end at {self._embedding_rows - 1}",
                    param="model",
                )
        return tuple(sorted(ids.difference(self._eos_token_ids)))


def _read(version: Version) -> AdapterPrompting:
    """The `prompting.json` of a version, checked against what was published."""
    assert version.metadata.prompting is not None
    try:
        content = read_limited(version.directory / PROMPTING_FILE, MAX_PROMPTING_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MissingFiles(
            f"version {version.digest} cannot be served: {PROMPTING_FILE}: {reason}; publish it again"
        ) from error
    if hashlib.sha256(content).hexdigest() != version.metadata.prompting.sha256:
        raise ChecksumMismatch(
            f"version {version.digest} cannot be served: its {PROMPTING_FILE} was changed; publish it again"
        )
    return decode_prompting(content)
