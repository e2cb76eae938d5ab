"""Counts of tasks and shadows, under labels from bounded sets."""

from prometheus_client import CollectorRegistry

from server.api.metrics.task_metrics import TaskMetrics


def test_labels_are_bounded_however_many_tasks_and_arms_there_are() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry, 3)
    for number in range(20):
        metrics.routed(f"task-{number}", "a", 0)
        metrics.routed("task-0", f"arm-{number}", 0)
        metrics.passed_over(f"task-{number}", "unresolved")
        metrics.tier_step(f"task-{number}", 1)
        metrics.shadow_ended(f"task-{number}", f"b-{number}", "dropped")
        metrics.shadow_answered(f"task-{number}", f"b-{number}", 0.1, 2, same=True)
    labels = {tuple(sample.labels.items()) for family in registry.collect() for sample in family.samples}
    assert {dict(found)["task"] for found in labels} == {"task-0", "task-1", "task-2", "other"}
    assert len({found for found in labels if "arm" in dict(found)}) <= 8
    other = {"task": "other", "arm": "other", "tier": "0"}
    assert registry.get_sample_value("switchyard_task_requests_total", other) == 17


def test_a_step_has_a_direction_and_no_step_is_none() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry, 3)
    for places in (2, -1, 0):
        metrics.tier_step("t", places)
    counted = {
        direction: registry.get_sample_value("switchyard_task_tier_steps_total", {"task": "t", "direction": direction})
        for direction in ("down", "up")
    }
    assert counted == {"down": 1, "up": 1}
