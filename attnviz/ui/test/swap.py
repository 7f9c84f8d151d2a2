"""Residuals patched from another input: not written yet, so no page offers it."""
