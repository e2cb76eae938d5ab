"""All metrics of one application."""
