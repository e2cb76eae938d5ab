"""Expressions over module names: `re` is the oracle, and no expression costs more than its length allows."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters_store.name_expression import NameExpression, NameText

PARTS_OF_NAMES = st.sampled_from(
    ["model", "layers", "10", "3", "self_attn", "mlp", "q_proj", "v_proj", "vision", "lm_head", "aab"]
)

IN_USE = [
    r".*\.layers\.([0-9]|1[0-9])\..*_proj",
    r".*layers\.(1|2|3)\..*(q_proj|v_proj)",
    r"(?:.*?(?:vision|language).*?(?:self_attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp)",
    r"^(?!.*lm_head).*(?:q_proj|k_proj)",
    r"(model\.)?layers\.\d+\.q_proj",
    r"(?<!vision\.)layers\.\d{1,2}\.(?=self)\w+\.q_proj",
    r"[)*+]x",
    r"\)+x",
    "a{2}b",
]

# Pieces that expressions are made of; many put together wrongly are no expressions, and are refused as such.
PIECES = st.sampled_from([*"ab..x|()?*+^$]", "{2}", "{,2}", "{1,}", "{}", "[ab]", "[^a]", "[]a]", r"\.", r"\w", r"\b"])
LOOKS = st.sampled_from(["(?:", "(?=", "(?!", "(?<=", "(?<!", "*?", "(a|b)", "(?:a|)?", "(?<=a|b)"])
EXPRESSIONS = st.lists(PIECES | LOOKS, max_size=12).map("".join)
TEXTS = st.text(alphabet="aabbx._\n", max_size=12)


@given(EXPRESSIONS, TEXTS)
@example(r"(?=(a+|b).)\w*", "ab")
@example("a$", "a\n")
@example(r"(?<=a|b)x?", "ax")
def test_what_matches_is_what_re_matches(source: str, text: str) -> None:
    try:
        expression = NameExpression.compile(source)
    except ValueError:
        return
    assert expression.matches_whole(NameText(text)) == bool(re.fullmatch(source, text))
    assert expression.matches_ending(NameText(text)) == bool(re.match(rf"(.*\.)?({source})$", text))


@pytest.mark.parametrize("source", IN_USE)
@given(st.lists(PARTS_OF_NAMES, max_size=8).map(".".join))
def test_expressions_in_use_are_accepted_and_match_as_in_re(source: str, name: str) -> None:
    assert NameExpression.compile(source).matches_whole(NameText(name)) == bool(re.fullmatch(source, name))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("(a+)+$", "repeats a group"),
        ("(a|a)*", "repeats a group"),
        ("(?:a+){10}", "repeats a group"),
        ("((a+))+?", "repeats a group"),
        ("[^]](a+)+", "repeats a group"),
        ("(?x:(a+) + )", "other than"),
        ("(?x)(a+) +", "other than"),
        ("(?i)q_proj", "other than"),
        ("(?P<n>a)", "other than"),
        ("(?>a)", "other than"),
        ("(a)(?(1)b|c)", "other than"),
        ("a++b", "possessive"),
        ("a{2}+b", "possessive"),
        (r"(a|b)\1", "references"),
        (r"\x61", "write the character itself"),
        ("(?=a(?!b))", "looks around inside"),
        ("(?=(a|(?<=b)))", "looks around inside"),
        ("(" * 17 + "a" + ")" * 17, "more than 16 deep"),
        ("a+)+(b", "not a regular expression"),
        ("{2}a", "not a regular expression"),
        ("(a", "not a regular expression"),
        ("a)|(b", "not a regular expression"),
        ("(" * 500 + ")" * 500, "not a regular expression|deep"),
        ("a{1,99999999999}", "not a regular expression"),
        ("x" * 1025, "longer than 1024"),
    ],
)
def test_what_is_not_matched_here_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        NameExpression.compile(source)


# Each takes `re` exponential time, or polynomial time of a high degree.
EXPENSIVE = [
    "(?:.|[a-z._0-9])" * 60 + "!",
    ".*" * 500 + "!",
    "a?" * 340 + "a" * 340,
    ".*(?:a|a)?" * 90 + "!",
    ".{0,200}" * 120 + "!",
    ".{9999}" * 140,
    ".*(?=" + ".*x?" * 250 + "!)",
    ".*(?=" + ".{0,200}" * 120 + "!)",
    ".*(?<!" + "(?:.|[a-z])" * 90 + ")!",
    ".*" + "(?=.*!)?" * 120,
]
PARTS = [
    "a",
    "(?:a|aa)",
    "(?:.|[a-z])",
    ".*",
    ".+?",
    "a?",
    "(?:a*|.)",
    "(?=.*a)",
    "(?!.*!)",
    "(?<=a)",
    r"\w{3,90}",
    "!",
]


@pytest.mark.parametrize("source", EXPENSIVE)
def test_the_worst_expressions_are_soon_done(source: str) -> None:
    assert _seconds(source, "a" * 200) < 5


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join), st.text(alphabet="ab.", max_size=200))
@settings(deadline=None)
def test_whatever_is_accepted_is_soon_done(source: str, name: str) -> None:
    assert _seconds(source, name) < 5


def _seconds(source: str, name: str) -> float:
    expression = NameExpression.compile(source)
    began = time.process_time()
    expression.matches_ending(NameText(name))
    return time.process_time() - began
