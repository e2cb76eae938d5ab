"""How each demo adapter is trained. Ranks, targets and scalings differ, so that a batch mixes unlike adapters."""

from dataclasses import dataclass

from server.demo.dates import DATE_TASKS, DateTask

__all__ = ["RECIPES", "Recipe"]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """LoRA on `targets` with rank `rank` and `alpha`, trained for `steps` of `batch_size` questions each."""

    task: DateTask
    rank: int
    alpha: int
    targets: tuple[str, ...]
    rslora: bool = False
    steps: int = 50
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0


_FRENCH, _GERMAN, _SPANISH, _ITALIAN = DATE_TASKS

RECIPES = (
    Recipe(_FRENCH, rank=4, alpha=8, targets=_ATTENTION + _MLP, steps=60),
    Recipe(_GERMAN, rank=4, alpha=8, targets=_ATTENTION + _MLP),
    Recipe(_SPANISH, rank=3, alpha=4, targets=_ATTENTION + _MLP, rslora=True),
    Recipe(_ITALIAN, rank=2, alpha=4, targets=_ATTENTION + _MLP, steps=80),
)
