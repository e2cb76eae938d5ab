"""The default numerics on CPU, judged teacher-forced: what they round must not change what the model means."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from server.adapters.loader import ReadVersion
from server.adapters.normal_form import NormalForm
from server.adapters.version_reader import read_version
from server.config import Settings, default_cache_dir
from server.engine.base_model import prepare_base
from server.engine.base_progress import TerminalProgress
from server.engine.batch import Batch, Row
from server.engine.build import BuiltEngine, build_engine
from server.engine.runner import Runner
from server.engine.sequence import Sequence
from server.kernels.native_library import LIBRARY
from tests.engine.hand_made import sequence
from tests.parity.oracle import Oracle
from tests.parity.test_demo_model import DEMO_ADAPTERS, chat_prompt
from tests.running_engine import version

CLEAR = 0.02
"""First and second logits that differ by this much must stay in their order."""
PERPLEXITY = 1e-3
"""Relative."""
LOG_PROBABILITY = 0.3
"""Absolute, over the whole vocabulary. Measured 0.10, at its unlikely end; a wrong scale makes it tens."""

SUBJECTS = ["the tide", "a cathedral", "compound interest", "a bicycle", "the river Nile", "yeast", "a lighthouse",
            "the printing press", "photosynthesis", "chess"]  # fmt: skip

pytestmark = pytest.mark.skipif(not LIBRARY.is_file(), reason=f"{LIBRARY.name} was not built (no C++ compiler?)")


@dataclass
class Comparison:
    """Sums over all positions of all texts."""

    positions: int = 0
    disagreements: list[tuple[Path | None, int, float]] = field(default_factory=list)
    largest: float = 0.0
    ours_lost: float = 0.0
    theirs_lost: float = 0.0

    def add(self, adapter: Path | None, tokens: list[int], ours: torch.Tensor, theirs: torch.Tensor) -> None:
        """Log-probabilities [tokens, vocabulary]; each row predicts the token after its own."""
        first, second = theirs.topk(2).values.unbind(1)
        wrong = (ours.argmax(1) != theirs.argmax(1)) & (first - second >= CLEAR)
        self.disagreements += [(adapter, int(at), float((first - second)[at])) for at in wrong.nonzero()]
        self.positions += len(tokens)
        self.largest = max(self.largest, float((ours - theirs).abs().max()))
        next_tokens = torch.tensor(tokens[1:])[:, None]
        self.ours_lost -= float(ours[:-1].gather(1, next_tokens).double().sum())
        self.theirs_lost -= float(theirs[:-1].gather(1, next_tokens).double().sum())

    @property
    def perplexity_change(self) -> float:
        return abs(math.expm1((self.ours_lost - self.theirs_lost) / self.positions))


def form_of(built: BuiltEngine, adapter: Path | None) -> NormalForm | None:
    if adapter is None:
        return None
    read = read_version(version(adapter), built.info.modules, dtype=torch.float32, budget_bytes=1 << 30)
    assert isinstance(read, ReadVersion)
    return read.form.to(torch.device("cpu"), torch.float32)


def continue_greedily(runner: Runner, texts: list[Sequence], forms: list[NormalForm | None], count: int) -> None:
    """Append `count` tokens to each text, all in one mixed batch."""
    for _ in range(count):
        rows = [
            Row(text, text.computed, len(text.tokens) - text.computed, True, form)
            for text, form in zip(texts, forms, strict=True)
        ]
        best = runner.run(Batch(tuple(rows))).argmax(1).tolist()
        for text, token in zip(texts, best, strict=True):
            text.computed = len(text.tokens)
            text.tokens.append(token)


@pytest.mark.demo_model
@pytest.mark.slow
@pytest.mark.parametrize(("subjects", "count"), [(1, 24), pytest.param(len(SUBJECTS), 64, marks=pytest.mark.soak)])
def test_default_numerics_mean_the_same(subjects: int, count: int) -> None:
    prepared = prepare_base(
        "smollm2-135m", quantization="nf4", cache_dir=default_cache_dir(), progress=TerminalProgress()
    )
    built = build_engine(Settings(), deliver=lambda events: None)
    assert built.info.kernels.startswith("native")
    adapters = [None, *sorted(path for path in DEMO_ADAPTERS.iterdir() if (path / "adapter_config.json").is_file())]
    oracle, result = Oracle(prepared), Comparison()
    runner, size = built.runner, built.info.block_size
    forms = [form_of(built, adapter) for adapter in adapters]
    for subject in SUBJECTS[:subjects]:
        prompt = chat_prompt(prepared.directory, f"Tell me about {subject}.")
        texts = [sequence(prompt) for _ in adapters]
        blocks = -(-(len(prompt) + count) // size)
        for index, text in enumerate(texts):
            text.blocks = list(range(index * blocks, (index + 1) * blocks))
        continue_greedily(runner, texts, forms, count)
        rows = [
            Row(text, 0, len(text.tokens), True, form, range(len(text.tokens) - 1))
            for text, form in zip(texts, forms, strict=True)
        ]
        logits = runner.run(Batch(tuple(rows))).log_softmax(-1).view(len(texts), -1, built.info.vocab_size)
        for adapter, text, ours in zip(adapters, texts, logits, strict=True):
            result.add(adapter, text.tokens, ours, oracle.log_probabilities(adapter, text.tokens))
    summary = (
        f"{result.positions} positions: log-probabilities differ by at most {result.largest:.4f}, "
        f"perplexity by {100 * result.perplexity_change:.4f} %"
    )
    print(summary)  # noqa: T201
    assert result.disagreements == [], summary
    assert result.perplexity_change < PERPLEXITY, summary
    assert result.largest < LOG_PROBABILITY, summary
