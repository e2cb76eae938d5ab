"""From a training file to a gated, published adapter: jobs, data, recipes, evaluation, worker."""
