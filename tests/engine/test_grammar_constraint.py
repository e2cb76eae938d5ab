import json
import random
import threading
from pathlib import Path

import jsonschema_rs
import pytest
import torch
from llguidance import LLMatcher

from server.api.constraints.grammar import json_part, serialised
from server.engine.constraint import TokenConstraint
from server.engine.grammar_constraint import CACHED_GRAMMARS, GrammarCompiler
from tests.engine.random_schemas import random_schema
from tests.tiny_models import tiny_tokenizer

VOCABULARY = 300  # more than the tokenizer's 259, as with padded embeddings
EOS = (257, 258)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def compiler(directory: Path) -> GrammarCompiler:
    return GrammarCompiler(directory, vocab_size=VOCABULARY, eos_token_ids=EOS)


def regex(pattern: str) -> str:
    return LLMatcher.grammar_from_regex(pattern)


def token(character: str) -> int:
    (token_id,) = tiny_tokenizer().encode(character)
    return int(token_id)


def allowed(constraint: TokenConstraint) -> set[int]:
    return set(constraint.mask().nonzero().flatten().tolist())


def written_at_random(constraint: TokenConstraint, rng: random.Random, limit: int = 2000) -> str:
    """What a model with uniform logits would write, up to its end."""
    tokens: list[int] = []
    while len(tokens) < limit:
        chosen = rng.choice(sorted(allowed(constraint)))
        if chosen in EOS:
            return str(tiny_tokenizer().decode(tokens))
        constraint.advance(chosen)
        tokens.append(chosen)
    raise AssertionError(f"no end within {limit} tokens")


def test_a_mask_is_as_wide_as_the_logits_and_allows_what_the_grammar_does(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(regex("a[bc]"))
    mask = constraint.mask()
    assert mask.dtype == torch.bool
    assert mask.shape == (VOCABULARY,)
    assert allowed(constraint) == {token("a")}
    constraint.advance(token("a"))
    assert allowed(constraint) == {token("b"), token("c")}


def test_every_end_token_is_allowed_where_the_grammar_may_end_and_nowhere_else(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(regex("ab?"))
    constraint.advance(token("a"))
    assert allowed(constraint) == {token("b"), *EOS}
    constraint.advance(token("b"))
    assert allowed(constraint) == set(EOS)


def test_constraints_of_one_grammar_are_independent(compiler: GrammarCompiler) -> None:
    first, second = (compiler.compile(regex("ab")) for _ in range(2))
    first.advance(token("a"))
    assert allowed(first) == {token("b")}
    assert allowed(second) == {token("a")}


def test_a_token_that_is_not_allowed_is_an_error_of_this_constraint_alone(compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(regex("ab"))
    with pytest.raises(RuntimeError):
        constraint.advance(token("z"))
    with pytest.raises(RuntimeError):
        constraint.mask()
    assert allowed(compiler.compile(regex("ab"))) == {token("a")}


def test_a_grammar_that_becomes_too_complex_on_the_way_is_an_error_of_its_constraint(compiler: GrammarCompiler) -> None:
    properties = {f"p{number}": {"type": "integer"} for number in range(3000)}
    constraint = compiler.compile(serialised([json_part({"type": "object", "properties": properties})]))
    with pytest.raises(RuntimeError, match="Too many items"):
        constraint.advance(token("{"))


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (regex("(unclosed"), "unclosed group"),
        ('{"grammars": [{"json_schema": {"type": "strin"}}]}', "Invalid type: strin"),
        ('{"grammars": [{"json_schema": false}]}', "Unsatisfiable"),
        ("start: missing", "missing"),
        ("", "cannot be used"),
        ("{", "cannot be used"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_with_its_reason(
    compiler: GrammarCompiler, grammar: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        compiler.compile(grammar)
    assert len(str(refusal.value)) < 800


def test_a_tokenizer_that_has_more_tokens_than_the_model_is_cut_to_it(directory: Path) -> None:
    compiler = GrammarCompiler(directory, vocab_size=258, eos_token_ids=(257,))
    constraint = compiler.compile(regex("a?"))
    assert constraint.mask().shape == (258,)
    assert allowed(constraint) == {token("a"), 257}


@pytest.mark.parametrize("content", [None, '{"x": 1}'])
def test_a_base_whose_tokenizer_cannot_be_read_refuses_grammars(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    compiler = GrammarCompiler(tmp_path, vocab_size=VOCABULARY, eos_token_ids=EOS)
    for _ in range(2):
        with pytest.raises(ValueError, match="grammars cannot be used with this base"):
            compiler.compile(regex("a"))


def test_a_base_without_an_end_token_refuses_grammars(directory: Path) -> None:
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        GrammarCompiler(directory, vocab_size=VOCABULARY, eos_token_ids=()).compile(regex("a"))


def test_more_grammars_than_are_kept_compile_from_several_threads(compiler: GrammarCompiler) -> None:
    failures: list[str] = []

    def compile_many(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            number = rng.randrange(2 * CACHED_GRAMMARS)
            text = written_at_random(compiler.compile(regex(f"n{number}")), rng)
            if text != f"n{number}":
                failures.append(text)

    threads = [threading.Thread(target=compile_many, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_at_random_under_a_schema_is_valid(compiler: GrammarCompiler, seed: int) -> None:
    rng = random.Random(seed)
    schema = random_schema(rng)
    grammar = serialised([json_part(schema)])
    text = written_at_random(compiler.compile(grammar), rng)
    jsonschema_rs.Draft202012Validator(schema).validate(json.loads(text))


def test_a_grammar_of_endless_ambiguity_is_cut_long_before_a_mask_takes_seconds(compiler: GrammarCompiler) -> None:
    def follow(grammar: str) -> None:
        constraint = compiler.compile(grammar)
        for _ in range(100):
            constraint.mask()
            constraint.advance(token("x"))

    with pytest.raises(RuntimeError, match="items; max is"):
        follow(LLMatcher.grammar_from_lark('start: a*\na: "x" | a a | b\nb: "x" | b b a\n'))
