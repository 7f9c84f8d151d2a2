"""Ablated heads: not written yet, so no page offers it."""
