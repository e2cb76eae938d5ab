"""Tokens to text and back: tokenizers, templates, detokenisation, stop strings."""
