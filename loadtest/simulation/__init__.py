"""Eviction policies and preloading on a virtual clock, at a scale that no test machine holds."""
