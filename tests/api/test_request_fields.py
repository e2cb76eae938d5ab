"""What a request may hold: every field is acted on, neutral, or refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import CompletionRequest
from server.api.protocol.generation_request import GenerationRequest
from server.errors import InvalidRequest, UnsupportedField

COMPLETION = {"model": "base", "prompt": "hello"}
CHAT = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
CALL: dict[str, Any] = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
BODIES: list[tuple[type[GenerationRequest], dict[str, Any]]] = [(CompletionRequest, COMPLETION), (ChatRequest, CHAT)]


def refused(request: type[GenerationRequest], body: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request.parse(body)
    return caught.value


NEUTRAL_FOR_BOTH = [
    ("n", 1),
    ("best_of", 1),
    ("presence_penalty", 0),
    ("frequency_penalty", 0.0),
    ("logprobs", False),
    ("logprobs", None),
    ("echo", False),
    ("logit_bias", {}),
    ("logit_bias", None),
    ("user", "someone"),
    ("metadata", {"team": "a"}),
    ("store", False),
    ("service_tier", "auto"),
    ("repetition_penalty", 1.0),
    ("min_p", 0),
    ("min_tokens", 0),
    ("skip_special_tokens", True),
    ("prompt_logprobs", None),
]


@pytest.mark.parametrize(("request_type", "body"), BODIES)
@pytest.mark.parametrize(("field", "value"), NEUTRAL_FOR_BOTH)
def test_a_field_that_asks_for_nothing_is_accepted(
    request_type: type[GenerationRequest], body: dict[str, Any], field: str, value: object
) -> None:
    request_type.parse(body | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", []),
        ("tool_choice", "none"),
        ("parallel_tool_calls", True),
        ("response_format", {"type": "text"}),
        ("top_logprobs", 0),
        ("modalities", ["text"]),
    ],
)
def test_a_chat_field_that_asks_for_nothing_is_accepted(field: str, value: object) -> None:
    ChatRequest.parse(CHAT | {field: value})


@pytest.mark.parametrize(("request_type", "body"), BODIES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("best_of", 3),
        ("suffix", "x"),
        ("store", True),
        ("service_tier", "flex"),
        ("user", 7),
        ("allowed_token_ids", [1]),
        ("truncate_prompt_tokens", 5),
        ("watermark", True),
        ("use_beam_search", True),
        ("no_such_field", None),
        ("no_such_field", 1),
    ],
)
def test_a_field_that_is_not_acted_on_is_refused_by_name(
    request_type: type[GenerationRequest], body: dict[str, Any], field: str, value: object
) -> None:
    error = refused(request_type, body | {field: value})
    assert isinstance(error, UnsupportedField)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", field)
    assert field in error.message


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("echo", True, "send false"),
        ("modalities", ["audio"], 'send ["text"]'),
        ("function_call", "required", 'send "none" or "auto"'),
        ("user", 7, "must be of type string"),
        ("metadata", 7, "must be of type object"),
    ],
)
def test_what_is_accepted_is_said_in_json(field: str, value: object, accepted: str) -> None:
    assert refused(ChatRequest, CHAT | {field: value}).message.endswith(accepted)


@pytest.mark.parametrize(
    ("field", "meant"),
    [("max_token", "max_tokens"), ("max_new_tokens", "max_tokens"), ("topP", "top_p"), ("TEMPERATURE", "temperature")],
)
def test_an_unknown_field_near_a_known_one_is_answered_with_it(field: str, meant: str) -> None:
    assert refused(CompletionRequest, COMPLETION | {field: 1}).message.endswith(f"; did you mean {meant}?")


def test_an_unknown_field_like_no_other_is_to_be_left_out() -> None:
    assert refused(CompletionRequest, COMPLETION | {"no_such_field": 1}).message.endswith("; leave it out")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{"name": "weather"}]),
        ("echo", True),
        ("reasoning_effort", "high"),
        ("prompt", "hello"),
    ],
)
def test_a_chat_field_that_is_not_acted_on_is_refused_by_name(field: str, value: object) -> None:
    error = refused(ChatRequest, CHAT | {field: value})
    assert (error.code, error.param) == ("unsupported_parameter", field)


@pytest.mark.parametrize(("request_type", "body"), BODIES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("temperature", "1"),
        ("temperature", True),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -2),
        ("top_k", 1.5),
        ("seed", 2**63),
        ("seed", "7"),
        ("max_tokens", 0),
        ("max_tokens", "5"),
        ("stop", ["x"] * 17),
        ("stop", [""]),
        ("stop", ""),
        ("stop", 5),
        ("stop", ["x" * 513]),
        ("stop_token_ids", "5"),
        ("stop_token_ids", [0] * 65),
        ("stream", "yes"),
        ("ignore_eos", 1),
        ("fallback", "none"),
        ("n", 0),
        ("n", 129),
        ("n", True),
        ("n", 1.0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", 11),
        ("min_p", 1.1),
        ("min_tokens", -1),
        ("top_k", 2**63),
        ("logprobs", 21),
        ("logprobs", "yes"),
        ("prompt_logprobs", 21),
        ("prompt_logprobs", True),
        ("logit_bias", []),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"01": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": True}),
        ("logit_bias", {"1": None}),
        ("logit_bias", {str(token): 0 for token in range(1025)}),
        ("return_token_ids", 1),
        ("task", ""),
        ("model", ""),
        ("model", 5),
    ],
)
def test_a_value_out_of_range_or_of_the_wrong_type_is_refused_by_name(
    request_type: type[GenerationRequest], body: dict[str, Any], field: str, value: object
) -> None:
    error = refused(request_type, body | {field: value})
    assert (error.status, error.code, error.param) == (400, "invalid_value", field)
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(("request_type", "body"), BODIES)
def test_null_means_not_given(request_type: type[GenerationRequest], body: dict[str, Any]) -> None:
    optional = [name for name in request_type.model_fields if name not in body]
    assert request_type.parse(body | dict.fromkeys(optional)) == request_type.parse(body)


@pytest.mark.parametrize(
    ("request_type", "body", "field"),
    [(CompletionRequest, COMPLETION, "prompt"), (ChatRequest, CHAT, "messages"), (ChatRequest, CHAT, "model")],
)
def test_a_required_field_that_is_missing_or_null_is_named(
    request_type: type[GenerationRequest], body: dict[str, Any], field: str
) -> None:
    rest = {name: value for name, value in body.items() if name != field}
    for incomplete in (rest, rest | {field: None}):
        error = refused(request_type, incomplete)
        assert (error.param, error.message) == (field, f"{field}: is required")


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        CompletionRequest.parse(body)


@pytest.mark.parametrize(
    ("prompt", "understood"),
    [
        ("a", ("a",)),
        (["a"], ("a",)),
        ([1, 2], ([1, 2],)),
        ([[1, 2]], ([1, 2],)),
        ("", ("",)),
        ([""], ("",)),
        (["a", "b"], ("a", "b")),
        ([[1], [2, 3]], ([1], [2, 3])),
        (["a", [2, 3]], ("a", [2, 3])),
    ],
)
def test_the_forms_of_a_prompt(prompt: object, understood: object) -> None:
    assert CompletionRequest.parse({"model": "base", "prompt": prompt}).prompt == understood


@pytest.mark.parametrize("prompt", [[], [[]], [1, "a"], [True], [1.5], {}, 5, [[1], "a", None], [[1], []], ["a"] * 129])
def test_a_malformed_prompt_is_refused(prompt: object) -> None:
    assert refused(CompletionRequest, {"model": "base", "prompt": prompt}).param == "prompt"


def test_prompts_times_choices_are_bounded() -> None:
    assert len(CompletionRequest.parse(COMPLETION | {"prompt": ["a"] * 64, "n": 2}).prompt) == 64
    assert refused(CompletionRequest, COMPLETION | {"prompt": ["a"] * 65, "n": 2}).param == "n"


@pytest.mark.parametrize(("request_type", "body"), BODIES)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"best_of": 2, "n": 1}, "best_of"),
        ({"task": "summarise"}, "task"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused_by_name(
    request_type: type[GenerationRequest], body: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    assert refused(request_type, body | fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"top_logprobs": 2}, "top_logprobs"), ({"continue_final_message": True}, "continue_final_message")],
)
def test_chat_fields_that_do_not_fit_together_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(ChatRequest, CHAT | fields).param == param


def test_no_tokens_may_be_asked_for_where_the_prompt_answers() -> None:
    for field in ({"echo": True}, {"prompt_logprobs": 0}):
        assert CompletionRequest.parse(COMPLETION | {"max_tokens": 0} | field).token_limit == 0
    assert refused(ChatRequest, CHAT | {"max_tokens": 0}).param == "max_tokens"


@pytest.mark.parametrize(("request_type", "body"), BODIES)
def test_a_task_stands_in_the_place_of_a_model(request_type: type[GenerationRequest], body: dict[str, Any]) -> None:
    rest = {name: value for name, value in body.items() if name != "model"}
    assert request_type.parse(rest | {"task": "summarise"}).routed_name == "task:summarise"
    assert request_type.parse(rest | {"task": "a", "model": "task:a"}).routed_name == "task:a"
    assert request_type.parse(body).routed_name == "base"


def test_biases_are_read_by_token() -> None:
    body = COMPLETION | {"logit_bias": {"0": -100, "17": 0.5}}
    assert CompletionRequest.parse(body).logit_bias == {0: -100.0, 17: 0.5}


def test_labels_are_the_clients_own_words() -> None:
    body = COMPLETION | {"user": "eve", "metadata": {"a": 1}, "prompt_cache_key": "key", "suffix": ""}
    assert CompletionRequest.labels(body) == {"user": "eve", "prompt_cache_key": "key"}


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({"role": "function", "content": "x"}, "messages[0].role", "invalid_value"),
        ({"role": "assistant"}, "messages[0].content", "invalid_value"),
        ({"role": "assistant", "tool_calls": []}, "messages[0].content", "invalid_value"),
        ({"role": "user"}, "messages[0].content", "invalid_value"),
        ({"role": "user", "content": 5}, "messages[0].content", "invalid_value"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content", "invalid_value"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content", "unsupported_parameter"),
        (
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
            "messages[0].content",
            "unsupported_parameter",
        ),
        ({"role": "user", "content": "x", "function_call": {}}, "messages[0].function_call", "unsupported_parameter"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "messages[0].tool_calls", "invalid_value"),
        ({"role": "user", "content": "x", "tool_call_id": "1"}, "messages[0].tool_call_id", "invalid_value"),
        (
            {"role": "assistant", "tool_calls": [{"type": "function"}]},
            "messages[0].tool_calls[0].function",
            "invalid_value",
        ),
        (
            {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "[1]"}}]},
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
        ),
        ("hello", "messages[0]", "invalid_value"),
    ],
)
def test_a_message_that_is_not_plain_text_is_refused_by_its_place(message: object, param: str, code: str) -> None:
    error = refused(ChatRequest, {"model": "base", "messages": [message]})
    assert (error.param, error.code) == (param, code)


def test_an_assistants_message_may_come_back_as_the_client_library_returned_it() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    assert ChatRequest.parse(CHAT | {"messages": [message]}).messages[0].content == "x"


def test_calls_and_their_results_reach_the_template() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42"},
    ]
    request = ChatRequest.parse({"model": "base", "messages": messages})
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert [message.as_template_input() for message in request.messages] == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": "42", "name": "f", "tool_call_id": "1"},
    ]


def test_stream_options_need_a_stream() -> None:
    error = refused(CompletionRequest, COMPLETION | {"stream_options": {"include_usage": True}})
    assert error.param == "stream_options"
    streamed = COMPLETION | {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert CompletionRequest.parse(streamed).include_usage
    unknown = COMPLETION | {"stream": True, "stream_options": {"include_obfuscation": True}}
    error = refused(CompletionRequest, unknown)
    assert (error.code, error.param) == ("unsupported_parameter", "stream_options.include_obfuscation")


def test_two_limits_that_differ_are_refused() -> None:
    assert refused(ChatRequest, CHAT | {"max_tokens": 3, "max_completion_tokens": 4}).param == "max_tokens"
    assert ChatRequest.parse(CHAT | {"max_tokens": 3, "max_completion_tokens": 3}).token_limit == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known_fields = st.sampled_from(
    sorted({*CompletionRequest.acted_on, *ChatRequest.acted_on, *CompletionRequest.neutral, *ChatRequest.neutral})
)


@given(st.dictionaries(known_fields | st.text(max_size=5), json_values, max_size=6), st.sampled_from(BODIES))
def test_any_json_is_parsed_or_refused_as_the_clients_error(
    fields: dict[str, Any], endpoint: tuple[type[GenerationRequest], dict[str, Any]]
) -> None:
    request_type, body = endpoint
    try:
        request_type.parse(body | fields)
    except InvalidRequest as refusal:
        error = refusal
    else:
        return
    assert error.status == 400
    assert error.message
