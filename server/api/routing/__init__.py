"""What a request's `model` and `task` mean: names, tasks, splits, tiers, shadows."""
