"""Seeded traffic: whose adapter is asked, when, and how long prompts and answers are."""
