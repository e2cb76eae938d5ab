"""Drives langchain-openai against a server and prints one JSON object of what it saw.

Usage: langchain_driver.py URL ADAPTER
"""

import json
import sys
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict


class Colour(BaseModel):
    """A colour to paint with, and nothing else: a model of random weights would go on with properties of its own."""

    model_config = ConfigDict(extra="forbid")

    colour: Literal["red", "green"]


def main(url: str, adapter: str) -> None:
    """Invoke, stream, batch, ask for structured output and for a tool call."""
    common = {"model": adapter, "base_url": f"{url}/v1", "api_key": "none", "max_retries": 0, "temperature": 0}
    chat = ChatOpenAI(**common, max_tokens=12)
    messages = [SystemMessage("Be brief."), HumanMessage("Hello")]
    answer = chat.invoke(messages)
    streamed = "".join(str(chunk.content) for chunk in chat.stream(messages))
    batch = chat.batch([messages, messages, messages])
    long = ChatOpenAI(**common, max_tokens=150)
    structured = long.with_structured_output(Colour, method="json_schema").invoke(messages)
    called = long.bind_tools([Colour], tool_choice="Colour").invoke(messages)
    completion = OpenAI(**common, max_tokens=6).invoke("Hello")
    error = None
    try:
        ChatOpenAI(**{**common, "model": "no-such-adapter"}).invoke(messages)
    except openai.APIStatusError as caught:
        error = {"name": type(caught).__name__, "status": caught.status_code}
    seen = {
        "text": answer.content,
        "streamed": streamed,
        "batch": [one.content for one in batch],
        "tokens": answer.usage_metadata["output_tokens"],
        "structured": structured.colour,
        "call": {"name": called.tool_calls[0]["name"], "arguments": called.tool_calls[0]["args"]},
        "completion": completion,
        "error": error,
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
