"""What visitors see first, proven: `python -m attnviz.curate` measures every example and keeps those that show it.

Each kind of example is one file with the candidates and their measure, and one line in KINDS with what it must reach.
`python -m attnviz.curate` writes those that reach it into assets/examples.json, which pages read; a test measures them
again and fails where one no longer shows its effect.
"""

from attnviz.curate.kinds import KINDS, Example, Kind, lacking, measured

__all__ = ["KINDS", "Example", "Kind", "lacking", "measured"]
