"""Rendering templates of strangers: what honest ones get, and what hostile ones do not."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store.errors import ChatTemplateFailed
from adapters_store.template_process import TemplateProcess

MESSAGES = [{"role": "user", "content": "Grüße, <b>東京</b> & 'quotes'"}, {"role": "assistant", "content": "hi"}]
CONTEXT = {"messages": MESSAGES, "add_generation_prompt": True, "bos_token": "<s>", "tools": None}


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    with TemplateProcess() as process:
        yield process


def failure(process: TemplateProcess, template: str) -> str:
    with pytest.raises(ChatTemplateFailed) as refused:
        process.render(template, CONTEXT)
    return refused.value.message


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}", None),
        ("{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}x{% endfor %}", "x"),
        ("{% generation %}kept{% endgeneration %}", "kept"),
        ("{{ {'ä': '<'} | tojson }}", '{"ä": "<"}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ strftime_now('%Y') }}", str(time.localtime().tm_year)),
        ("{% if tools is defined and tools %}tools{% endif %}  {%- if not documents %} none{% endif %}\n", "none"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='role') | join }}", "user"),
        ("{{ messages[0]['content'].split(',')[0].strip().upper() }}", "GRÜSSE"),
    ],
)
def test_an_honest_template_is_rendered(process: TemplateProcess, template: str, text: str | None) -> None:
    whole = f"<s>[user]{MESSAGES[0]['content']}[assistant]hi"
    assert process.render(template, CONTEXT).strip() == (whole if text is None else text)


def test_it_writes_what_transformers_writes(process: TemplateProcess) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    from tests.api.tiny_tokenizer import CHAT_TEMPLATE

    templates = (CHAT_TEMPLATE, "{% for m in messages %}\n  {{ m | tojson }}\n{% endfor %}\n{{ bos_token }}\n")
    for template in templates:
        expected = render_jinja_template(
            conversations=[MESSAGES], chat_template=template, add_generation_prompt=True, bos_token="<s>"
        )[0]
        assert [process.render(template, CONTEXT)] == list(expected)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('no system message') }}", "refuses: no system message"),
        ("{% for %}", "does not compile: line 1"),
        ("{{ messages[0].content.nothing.at.all }}", "refuses"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{% include 'x' %}", "fails"),
        ("{{ raise_exception('x' * 10000) }}", "x…"),
    ],
)
def test_an_error_of_the_template_is_told(process: TemplateProcess, template: str, says: str) -> None:
    message = failure(process, template)
    assert says in message
    assert len(message) < 400


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['sys'].modules }}",
        "{{ strftime_now.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
        "{{ (messages | attr('__class__')).__mro__ }}",
        "{{ messages.append({'role': 'x'}) }}",
        "{{ self._TemplateReference__context.environment.from_string('x') }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
    ],
)
def test_a_template_does_not_get_out(process: TemplateProcess, template: str) -> None:
    try:
        text = process.render(template, CONTEXT)
    except ChatTemplateFailed:
        return
    assert text.strip() == "", text


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = 'a' * 10**9 %}{{ 'x' }}",
        "{{ 'a b ' * 9999999 | length }}{{ ('a' * 99999999) | list | sort | join | length }}",
        "{% for a in range(99999) %}{{ 'abcdefghij' * 9 }}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}",
        "{{ '%999999999d' | format(1) }}",
    ],
)
def test_a_template_that_would_exhaust_the_machine_is_cut_and_the_next_one_served(
    process: TemplateProcess, template: str
) -> None:
    began = time.monotonic()
    failure(process, template)
    assert time.monotonic() - began < 15
    assert process.render("{{ bos_token }}", CONTEXT) == "<s>"


def test_the_output_may_grow_with_the_conversation_only(process: TemplateProcess) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 400_000}]}
    assert len(process.render("{{ messages[0].content }}" * 2, long)) == 800_000
    assert "characters" in failure(process, "{% for a in range(9000) %}{{ 'x' * 99 }}{% endfor %}")


def test_several_threads_each_get_their_own_answer(process: TemplateProcess) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = process.render("{{ n }}", {"n": number})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number) for number in range(12)}


def test_a_worker_that_was_killed_is_replaced(process: TemplateProcess) -> None:
    assert process.render("a", {}) == "a"
    worker = process.worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    # Whether the death is seen before the question or by it, the one after is answered.
    for _ in range(2):
        try:
            assert process.render("b", {}) == "b"
        except ChatTemplateFailed:
            continue
    assert process.render("c", {}) == "c"
    assert process.worker_pid != worker


def test_the_worker_has_no_environment(process: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    process.close()
    assert process.worker_pid is None
    monkeypatch.setenv("SWITCHYARD_API_KEY", "secret")
    process.render("a", {})
    assert b"secret" not in Path(f"/proc/{process.worker_pid}/environ").read_bytes()
