"""What a server remembers of one task between its requests: how far each split is, and which tiers are in use."""

from collections.abc import Mapping, Sequence

from adapters_store.task_rule import MAX_SHADOWS, Arm, Pressure, Shadow, TaskRule
from server.api.routing.rank_tiers import Demand, TierCandidate, TierChoice, choose_tier
from server.api.routing.traffic_split import EvenSequence, arm_at, arm_of_label, independent_step


class TaskTraffic:
    """The traffic of one task on this server. Splits go on evenly when the rule changes."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._arms = EvenSequence()
        self._samples = [EvenSequence(independent_step(number)) for number in range(MAX_SHADOWS)]
        self._tiers: dict[str, TierChoice] = {}

    def choose_arm(self, rule: TaskRule, labels: Mapping[str, str]) -> Arm:
        """The arm of the next request: by its label where the rule says so and it has one, else by turns."""
        weights = [arm.weight for arm in rule.arms]
        label = labels.get(rule.sticky, "") if rule.sticky is not None else ""
        if label:
            return rule.arms[arm_of_label(label, self._task, weights, [str(arm) for arm in rule.arms])]
        return rule.arms[arm_at(self._arms.next(), weights)]

    def choose_shadows(self, rule: TaskRule) -> list[Shadow]:
        """The shadows that get a copy of the next request."""
        return [
            shadow for shadow, sample in zip(rule.shadow, self._samples, strict=False) if sample.next() < shadow.sample
        ]

    def choose_tier(
        self, arm: Arm, tiers: Sequence[TierCandidate], demand: Demand, pressure: Pressure, now: float
    ) -> tuple[int, int]:
        """The place in `tiers` that answers now, and by how many places it is further down than the last time."""
        before = self._tiers.get(str(arm))
        choice = choose_tier(tiers, demand, pressure, before, now)
        self._tiers[str(arm)] = choice
        return choice.tier, choice.tier - (choice.tier if before is None else before.tier)

    def forget_other_arms(self, rule: TaskRule) -> None:
        """Keep nothing of arms that the rule no longer has."""
        known = {str(arm) for arm in rule.arms}
        self._tiers = {arm: choice for arm, choice in self._tiers.items() if arm in known}
