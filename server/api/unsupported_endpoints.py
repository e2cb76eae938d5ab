"""Endpoints of OpenAI and of other servers that this one does not have, and what to use instead.

They are answered with 404: client libraries raise their "not found" for it at once, while they take 501 for an
outage and try again.
"""

from collections.abc import Mapping

_NO_EMBEDDINGS = "this server generates text with adapters and has no embedding model: serve one beside it"
_CHAT = "send conversations to POST /v1/chat/completions"
_COMPLETIONS = "send prompts to POST /v1/completions, with the adapter's name in `model`"
_TEXT_ONLY = "this server takes and gives text only"
_ADAPTERS = "GET /v1/adapters lists the adapters; name one in a request's `model`"

UNSUPPORTED_ENDPOINTS: Mapping[str, str] = {
    # OpenAI
    "/v1/assistants": _CHAT,
    "/v1/audio": _TEXT_ONLY,
    "/v1/batches": "send the requests one by one: the server batches what arrives together",
    "/v1/conversations": _CHAT,
    "/v1/edits": _CHAT,
    "/v1/embeddings": _NO_EMBEDDINGS,
    "/v1/engines": "GET /v1/models lists what `model` may name",
    "/v1/images": _TEXT_ONLY,
    "/v1/moderations": "this server has no moderation model",
    "/v1/realtime": _TEXT_ONLY,
    "/v1/responses": f"this server keeps no conversations: {_CHAT}",
    "/v1/threads": _CHAT,
    "/v1/vector_stores": _NO_EMBEDDINGS,
    "/v1/videos": _TEXT_ONLY,
    # Anthropic, Cohere and Jina
    "/v1/messages": _CHAT,
    "/v1/rerank": "this server has no ranking model",
    "/v2/rerank": "this server has no ranking model",
    "/rerank": "this server has no ranking model",
    # vLLM and SGLang
    "/classify": "this server generates text; it does not classify",
    "/flush_cache": "prefixes are reused by the digest of the weights, so none is ever stale",
    "/pooling": _NO_EMBEDDINGS,
    "/score": "this server has no ranking model",
    "/tokenizer_info": "POST /tokenize and POST /detokenize use the base's tokenizer, or the adapter's own",
    # LoRAX and TGI
    "/classify_batch": "this server generates text; it does not classify",
    "/embed": _NO_EMBEDDINGS,
    "/invocations": "send prompts to POST /generate",
    # llama.cpp
    "/apply-template": "POST /tokenize takes `messages`",
    "/completion": _COMPLETIONS,
    "/embedding": _NO_EMBEDDINGS,
    "/infill": _COMPLETIONS,
    "/lora-adapters": _ADAPTERS,
    "/props": "GET /v1/models has the base and its context length",
    "/slots": "GET /metrics has what runs and waits",
    # Ollama
    "/api/chat": _CHAT,
    "/api/embed": _NO_EMBEDDINGS,
    "/api/embeddings": _NO_EMBEDDINGS,
    "/api/generate": _COMPLETIONS,
    "/api/tags": "GET /v1/models lists what `model` may name",
}


def instead_of(path: str) -> str | None:
    """What to use in the place of an endpoint that others have; None for a path that nobody is known to have.

    What lies below an endpoint is as unsupported as itself, and so is either with or without `/v1`.
    """
    for candidate in (path, f"/v1{path}", path.removeprefix("/v1")):
        while candidate and candidate != "/":
            if candidate in UNSUPPORTED_ENDPOINTS:
                return UNSUPPORTED_ENDPOINTS[candidate]
            candidate = candidate.rpartition("/")[0]
    return None
