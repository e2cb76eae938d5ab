"""Publishing adapters that bring a chat template, tokens, stops or sampling: what is kept, and under which digest."""

import json
from pathlib import Path

import pytest

from adapters_store import AdapterRef, AdapterStore, ChecksumMismatch, InvalidAdapter, read_verified, verify_directory
from adapters_store.adapter_prompting import PromptingSummary, decode_prompting
from adapters_store.base_description import BaseDescription
from adapters_store.base_tokenizer import describe_tokenizer
from adapters_store.errors import ChatTemplateFailed
from adapters_store.names import AdapterName
from adapters_store.verification import verify
from tests.adapters_store.hand_made import BASE, write_adapter
from tests.adapters_store.hand_made_tokenizer import (
    BASE_TOKENS,
    EMBEDDING_ROWS,
    TEMPLATE,
    token,
    write_json,
    write_tokenizer,
)


@pytest.fixture
def base(store: AdapterStore, tmp_path: Path) -> BaseDescription:
    """A base whose tokenizer is known, described in the store."""
    tokenizer = describe_tokenizer(write_tokenizer(tmp_path / "base"), embedding_rows=EMBEDDING_ROWS)
    description = BaseDescription(BASE.name, BASE.architecture, BASE.modules, tokenizer)
    store.describe_base(description)
    return description


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "source")


def test_the_base_is_described_with_its_tokenizer(store: AdapterStore, base: BaseDescription) -> None:
    assert store.base() == base


def test_a_description_from_before_tokenizers_were_described_is_read(store: AdapterStore) -> None:
    store.describe_base(BASE)
    path = store.root / "base.json"
    known = json.loads(path.read_text())
    del known["tokenizer"]
    path.write_text(json.dumps(known))
    assert store.base() == BASE


def test_the_bases_own_tokenizer_beside_the_weights_changes_no_digest(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    bare = store.publish(support, source).version
    write_tokenizer(source)
    again = store.publish(support, source)
    assert (again.version.digest, again.created) == (bare.digest, False)
    assert again.version.metadata.prompting is None
    assert not (bare.directory / "prompting.json").exists()


def test_what_an_adapter_brings_is_kept_listed_and_covered_by_the_digest(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    bare = store.publish(support, source).version
    write_tokenizer(source, added_tokens=[*BASE_TOKENS, token(6, "<tool>")], template=TEMPLATE + "!")
    write_json(source, "generation_config.json", {"temperature": 0.5, "stop_strings": "END", "eos_token_id": [7]})
    version = store.publish(support, source).version
    assert version.digest != bare.digest
    content = (version.directory / "prompting.json").read_bytes()
    assert decode_prompting(content).chat_template == TEMPLATE + "!"
    summary = store.resolve(AdapterRef(support)).metadata.prompting
    assert summary is not None
    assert summary == PromptingSummary(
        sha256=summary.sha256,
        chat_template=True,
        added_tokens=1,
        stop_strings=("END",),
        stop_token_ids=(7,),
        sampling={"temperature": 0.5},
    )
    files = read_verified(version.directory, version.digest, max_bytes=1 << 20)
    assert files.contents["prompting.json"] == content
    (version.directory / "prompting.json").unlink()
    with pytest.raises(ChecksumMismatch):
        verify_directory(version.directory, version.digest)


def test_a_prompting_file_that_was_laid_into_a_version_is_found_out(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    version = store.publish(support, source).version
    (version.directory / "prompting.json").write_text('{"stop_strings":["x"]}')
    with pytest.raises(ChecksumMismatch):
        verify_directory(version.directory, version.digest)


def test_a_version_published_from_its_own_directory_is_the_same_version(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    write_json(source, "generation_config.json", {"temperature": 0.5})
    version = store.publish(support, source).version
    copy = store.publish(AdapterName(None, "copy"), version.directory).version
    assert copy.digest == version.digest
    assert verify(store).findings == ()


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ raise_exception('never') }}", "{% set x = 1 %}", "{{ 'a' * 10**9 }}"]
)
def test_a_template_that_does_not_work_is_refused(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path, template: str
) -> None:
    (source / "chat_template.jinja").write_text(template)
    with pytest.raises(ChatTemplateFailed) as refused:
        store.publish(support, source)
    assert refused.value.param == "chat_template"
    assert store.list() == []


def test_a_template_may_use_the_special_tokens_of_base_and_adapter(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    template = "{% if bos_token != '<s>' or eos_token != '<tool>' %}{{ raise_exception('no') }}{% endif %}x"
    write_tokenizer(source, added_tokens=[*BASE_TOKENS, token(6, "<tool>")], eos_token="<tool>", template=template)
    assert store.publish(support, source).created


def test_a_tokenizer_that_the_base_cannot_serve_changes_nothing(
    store: AdapterStore, base: BaseDescription, support: AdapterName, source: Path
) -> None:
    write_tokenizer(source, added_tokens=[*BASE_TOKENS, token(EMBEDDING_ROWS, "<tool>")])
    with pytest.raises(InvalidAdapter, match="no embedding row"):
        store.publish(support, source)
    assert store.list() == []
    assert list((store.root / "tmp").iterdir()) == []
