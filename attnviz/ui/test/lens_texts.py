"""The logit lens of a text: a table of words and layers with the likeliest answer in each cell."""

from __future__ import annotations

from collections.abc import Callable

from attnviz import views
from attnviz.measures.interventions import Lens
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.test.pair import depth_name
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.whole_answer import label_of


def draw(about: ModelRun, found: Lens, cell: int, pick: Callable[[tuple[int, ...]], None]) -> None:
    """Rows are words, columns depths; the colour is the probability. Cells are turned, since words read along rows."""
    depths, count = found.labels.shape[:2]
    words = list(about.sample.tokens["main"].labels)
    best = [[label_of(about, found.output, one) for one in row] for row in found.labels[..., 0].T.tolist()]
    shares = found.probabilities[..., 0].T.tolist()
    depth, token = divmod(cell, count)

    def turned(chosen: tuple[int, ...]) -> None:
        pick(tuple(index % depths * count + index // depths for index in chosen))

    views.cells_view(
        "test:lens",
        rows=words,
        columns=["In", *map(str, range(1, depths))],
        values=shares,
        texts=best,
        tips=[
            [f"{words[t]}, {depth_name(d).lower()}: {best[t][d]}, {percent(shares[t][d])}" for d in range(depths)]
            for t in range(count)
        ],
        limit=1.0,
        unit="percent",
        cell=(120, 32),
        chosen=(token * depths + depth,),
        note="probability of the likeliest answer; columns are depths, In is what enters layer 1",
        label="Click a cell for its likeliest answers; rows are words, columns are layers",
        on_pick=turned,
    )
