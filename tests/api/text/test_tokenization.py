"""Prompts and conversations as token ids."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from adapters_store.errors import ChatTemplateFailed
from server.api.text.tokenization import Tokenization
from server.errors import BaseModelError, InvalidRequest
from tests.api.tiny_tokenizer import byte_level_tokenizer, write_tokenizer

pytestmark = pytest.mark.anyio


async def test_a_plain_prompt_gets_the_special_tokens_of_the_tokenizer(tmp_path: Path, base_directory: Path) -> None:
    tokenization = Tokenization.load(base_directory)
    ids = await tokenization.encode_prompt("hello")
    with_bos = byte_level_tokenizer()
    with_bos.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    write_tokenizer(tmp_path, tokenizer=with_bos)
    loaded = Tokenization.load(tmp_path)
    assert await loaded.encode_prompt("hello") == [0, *ids]
    chat = await loaded.encode_chat([{"role": "user", "content": "hello"}])
    assert chat[0] == with_bos.token_to_id("<|im_start|>")


async def test_a_long_text_is_encoded_beside_the_event_loop(base_directory: Path) -> None:
    tokenization = Tokenization.load(base_directory)
    text = "hello world, how are you? " * 20_000
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.002)
            beats += 1

    heartbeat = asyncio.create_task(heart())
    ids = await tokenization.encode_prompt(text)
    heartbeat.cancel()
    assert ids == tokenization.tokenizer.encode(text).ids
    assert beats >= 10


async def test_two_threads_may_encode_at_once(base_directory: Path) -> None:
    tokenization = Tokenization.load(base_directory)
    texts = [f"{number} " * 10_000 for number in range(6)]
    encoded = await asyncio.gather(*(tokenization.encode_prompt(text) for text in texts))
    assert encoded == [tokenization.tokenizer.encode(text).ids for text in texts]


async def test_a_base_without_a_chat_template_says_so(tmp_path: Path) -> None:
    tokenization = Tokenization.load(write_tokenizer(tmp_path, chat_template=None))
    with pytest.raises(InvalidRequest, match="no chat template"):
        await tokenization.encode_chat([{"role": "user", "content": "hello"}])


def test_a_directory_without_a_tokenizer_is_a_base_model_error(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="tokenizer cannot be read"):
        Tokenization.load(tmp_path)


def test_a_chat_is_tokenised_without_torch(base_directory: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "import server.api.app\n"
        "from server.api.text.tokenization import Tokenization\n"
        "tokenization = Tokenization.load(Path(sys.argv[1]))\n"
        "ids = asyncio.run(tokenization.encode_chat([{'role': 'user', 'content': 'hello'}]))\n"
        "print(len(ids), 'torch' in sys.modules)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(base_directory)], capture_output=True, text=True, check=True
    )
    count, torch_loaded = finished.stdout.split()
    assert int(count) > 0
    assert torch_loaded == "False"


class OftenCut:
    """A template that knows of tools, whose process is cut at its first writings."""

    source = ""

    def __init__(self, cuts: int) -> None:
        self.cuts = cuts
        self.written = 0

    async def write(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        self.written += 1
        if self.written <= self.cuts:
            raise ChatTemplateFailed("the chat template took more than 1 s of computing, and was cut")
        return f"{len(variables.get('tools') or [])} tools"


async def test_a_template_that_was_cut_once_may_still_know_of_tools(base_directory: Path) -> None:
    base = Tokenization.load(base_directory)
    template = OftenCut(cuts=1)
    tokenization = Tokenization(base.tokenizer, template, {}, base.threads)
    messages = [{"role": "user", "content": "hello"}]
    assert await tokenization.encode_chat(messages, tools=[{}]) == base.tokenizer.encode("0 tools").ids
    assert await tokenization.encode_chat(messages, tools=[{}]) == base.tokenizer.encode("1 tools").ids
    compared = template.written
    await tokenization.encode_chat(messages, tools=[{}])
    assert template.written == compared + 1
