"""Preferences as TRL's DPOTrainer has them after its own tokenisation, which knows less of chat templates."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from server.training.data.encoder import EncodedPreference


def cut_preference(row: EncodedPreference, max_length: int) -> EncodedPreference | None:
    """A preference of which prompt and either answer are at most `max_length` tokens together.

    The answers are cut at their ends. None: nothing of them is left, or what is left of both is the same.
    """
    room = max_length - len(row.prompt)
    if room <= 0 or row.chosen[:room] == row.rejected[:room]:
        return None
    return EncodedPreference(row.prompt, row.chosen[:room], row.rejected[:room])


def preference_dataset(rows: Sequence[EncodedPreference]) -> Any:
    """A `datasets.Dataset`, which DPOTrainer insists on, with `prompt_ids`, `chosen_ids` and `rejected_ids`."""
    # Here, since only preferences need it, and it is slow to import.
    from datasets import Dataset, Features, List, Value

    names = {"prompt_ids": "prompt", "chosen_ids": "chosen", "rejected_ids": "rejected"}
    columns = {name: [list(getattr(row, part)) for row in rows] for name, part in names.items()}
    return Dataset.from_dict(columns, features=Features({name: List(Value("int64")) for name in names}))


def preference_collator(padding: int) -> Callable[[Any], dict[str, Any]]:
    """TRL's own collator: chosen answers are the first half of a batch, rejected ones the second."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    return cast(Callable[[Any], dict[str, Any]], DataCollatorForPreference(pad_token_id=padding))
