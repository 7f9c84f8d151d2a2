"""The logit lens: not written yet, so no page offers it."""
