"""Drives LiteLLM against a server and prints one JSON object of what it saw. Usage: litellm_driver.py URL ADAPTER"""

import json
import sys

import litellm


def main(url: str, adapter: str) -> None:
    """Ask as an application behind LiteLLM asks: by provider prefix, with OpenAI's parameters."""
    common = {"model": f"openai/{adapter}", "api_base": f"{url}/v1", "api_key": "none", "num_retries": 0}
    messages = [{"role": "user", "content": "Hello"}]
    chat = litellm.completion(**common, messages=messages, max_tokens=12, temperature=0)
    stream = litellm.completion(**common, messages=messages, max_tokens=12, temperature=0, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    several = litellm.completion(**common, messages=messages, max_tokens=6, temperature=1.0, n=3, seed=5)
    text = litellm.text_completion(
        model=f"text-completion-openai/{adapter}",
        api_base=f"{url}/v1",
        api_key="none",
        prompt="Hello",
        max_tokens=6,
        temperature=0,
    )
    error = None
    try:
        litellm.completion(**{**common, "model": "openai/no-such-adapter"}, messages=messages)
    except litellm.exceptions.APIError as caught:
        error = {"name": type(caught).__name__, "status": caught.status_code}
    except Exception as caught:
        error = {"name": type(caught).__name__, "status": getattr(caught, "status_code", None)}
    seen = {
        "text": chat.choices[0].message.content,
        "streamed": streamed,
        "tokens": chat.usage.completion_tokens,
        "choices": len(several.choices),
        "completion": text.choices[0].text,
        "error": error,
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
