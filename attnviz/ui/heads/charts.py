"""What the heads do, measured: a choice of pictures, charts against depth, and a table that opens a head."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attnviz.measures.heads import uniform_distance
from attnviz.plots.depth import depth
from attnviz.ui.core.cache import open_model, trace
from attnviz.ui.core.labels import call_labels
from attnviz.ui.core.state import go, one_of
from attnviz.ui.heads.naming import Named, on_what, titles
from attnviz.ui.heads.overview import KNOWN, Table, known, measured, measured_calls, order, place, resident
from attnviz.ui.inputs.image_run import chosen_size, prepared
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.output import dark, plot

THIS, ALL = "sample", "all"


def over_choice(visit: ModelRun) -> tuple[Table, int]:
    """The measures on this picture or averaged over all samples, as the visitor likes, and over how many pictures.

    Of large inputs, on this picture only: all samples would take minutes.
    """
    if not resident(visit):
        return measured(visit), 1
    options = {THIS: "This picture", ALL: "All sample pictures"}
    if one_of("Measured on", options, default=THIS, key="over") == THIS:
        return measured(visit), 1
    return _averaged(visit.name, visit.model.digest, chosen_size(visit.model))


@st.cache_data(max_entries=8, show_spinner="Measuring the heads on every sample picture")
def _averaged(name: str, model_digest: str, size: int | None) -> tuple[Table, int]:
    """The means, and over how many pictures. Only where rows sum to 1, which the picture does not decide."""
    model = open_model(name)
    opened = [open_sample(name, sample) for sample in samples_of(name)]
    samples = [prepared(model.digest, picture.digest, model, picture.image, size=size) for picture in opened]
    tables = [measured_calls(model_digest, sample.digest, trace(name, sample).calls) for sample in samples]
    return {measure: np.mean([table[measure] for table in tables], 0) for measure in tables[0]}, len(tables)


def depth_charts(visit: ModelRun, table: Table, layer: int, head: int, count: int) -> None:
    """Measures of all heads against depth, the opened head ringed."""
    grid = visit.sample.tokens["main"].grid
    even = {} if grid is None else {"even attention": uniform_distance(grid)}
    shown = {"distance": even, "entropy": {"even attention": 1.0}, "prefix" if "prefix" in table else "neighbours": {}}
    measure_charts(visit, table, shown, layer, head, pictures(count))


def measure_charts(
    visit: ModelRun, table: Table, shown: dict[str, dict[str, float]], layer: int, head: int, on: str
) -> None:
    """One chart for each named measure, with lines to compare with; `on` says what it was measured on."""
    shown = {name: references for name, references in shown.items() if name in table}
    for column, (name, references) in zip(st.columns(max(1, len(shown))), shown.items(), strict=False):
        measure = KNOWN[name]
        title = measure.title + (f", {measure.unit}" if len(measure.unit) > 1 else "")
        figure = depth(
            table[name],
            names=call_labels(visit.trace),
            references=references,
            chosen=(layer, head),
            dark=dark(),
            y_title=title,
            form=".1%" if measure.unit == "%" else ".3g",
        )
        said = f"{measure.title} of every head against its layer, {on}"
        with column:
            plot(figure, f"depth:{name}", alt=said)


def pictures(count: int) -> str:
    """Over how many pictures a number was averaged."""
    return "on this picture" if count == 1 else f"averaged over {count} pictures"


def head_table(visit: ModelRun, table: Table, names: Named, measure: str | None) -> None:
    """All heads with their names and all their measures; choosing a row opens that head."""
    cells = order(table, measure, names) or [
        (call, head) for call in range(len(visit.trace.calls)) for head in range(visit.trace.calls[call].heads)
    ]
    columns: dict[str, list] = {"Head": [place(visit, *cell) for cell in cells]}
    columns[f"Name {on_what(visit)}"] = [titles(names[row][head]) for row, head in cells]
    formats = {}
    for name, one in known(table).items():
        scale = 100 if one.unit == "%" else 1
        columns[one.title] = [scale * float(table[name][cell]) for cell in cells]
        form = {"%": "%.1f %%", "": "%.2f"}.get(one.unit, f"%.2f {one.unit}")
        formats[one.title] = st.column_config.NumberColumn(format=form)

    def open_row() -> None:
        chosen = st.session_state["head table"]["selection"]["rows"]
        if chosen:
            call, head = cells[chosen[0]]
            go(layer=call_labels(visit.trace)[call], head=head + 1)

    st.dataframe(
        columns,
        hide_index=True,
        height=280,
        key="head table",
        column_config=formats,
        on_select=open_row,
        selection_mode="single-row",
    )


def depth_section(visit: ModelRun, table: Table, names: Named, layer: int, head: int, measure: str | None) -> None:
    """What the heads do, layer by layer; nothing where heads have no measures."""
    if not table:
        return
    section("heads", "What the heads do, layer by layer")
    over, count = over_choice(visit)
    depth_charts(visit, over, layer, head, count)
    st.caption(f"One dot per head, {pictures(count)}; the line is their mean, the ring the opened head.")
    head_table(visit, over, names, measure)
