"""Arrays and labels in, plotly figures or PNG bytes out. Nothing of ours is imported but the colours in theme.py.

To add a plot: a function that takes whatever `np.asarray` takes, checks shapes with `frame.fits`, builds one figure and
returns `frame.finish(figure, ...)`. Axes are numeric with tick texts, because plotly merges repeated category labels.
"""

from attnviz.plots.curves import bars, lines
from attnviz.plots.heatmaps import heatmap
from attnviz.plots.panels import stacked_bars
from attnviz.plots.pictures import mosaic, tiled
from attnviz.plots.scatter import scatter

__all__ = ["bars", "heatmap", "lines", "mosaic", "scatter", "stacked_bars", "tiled"]
