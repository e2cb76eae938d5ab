"""From a validated request to the delivered answer: orders, choices, attempts, events."""
