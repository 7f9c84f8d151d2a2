"""Arrays and labels in, figures or PNG bytes out. Nothing of ours is imported but the colours in theme.py.

A figure is a plain dictionary, {"data": [...], "layout": {...}}, that plotly.js draws: nothing checks it while a page
runs. `plotly.graph_objects.Figure(heatmap(...))` makes one of plotly's own objects of it, for notebooks.

To add a plot: a function that takes whatever `np.asarray` takes, checks shapes with `frame.fits`, makes traces by
`frame.trace` and returns `frame.figure(traces, ...)`, and a line in the table of tests/plots/test_valid.py, which asks
plotly whether the figure is valid. Axes are numeric with tick texts, because plotly merges repeated category labels.
"""

from attnviz.plots.curves import bars, lines
from attnviz.plots.frame import Figure, change, rule
from attnviz.plots.heatmaps import heatmap
from attnviz.plots.panels import stacked_bars
from attnviz.plots.pictures import mosaic, tiled
from attnviz.plots.scatter import scatter
from attnviz.plots.sending import Unchecked

__all__ = [
    "Figure",
    "Unchecked",
    "bars",
    "change",
    "heatmap",
    "lines",
    "mosaic",
    "rule",
    "scatter",
    "stacked_bars",
    "tiled",
]
