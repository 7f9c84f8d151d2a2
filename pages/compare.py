"""Compare: kinds of attention side by side on one picture or text, what they cost, and what each of them computes."""

import streamlit as st

from attnviz import ui
from attnviz.ui.compare import charts, costs, drawing, numbers, timing
from attnviz.ui.compare import choice as compare_choice
from attnviz.ui.compare import panels as compare_panels
from attnviz.ui.compare.domain import MapStyle, Panel
from attnviz.ui.compare.formulas import explain
from attnviz.ui.shell.prose import section

ground = compare_choice.ground()
ui.header(ground.page)


def side_by_side(
    choice: compare_choice.Choice, look: MapStyle, panels: list[Panel]
) -> tuple[list[numbers.Cell], tuple[int, ...]]:
    """The panels in the heads that were chosen; which heads and which token are returned for what stands below."""
    shown = [panel for panel in panels if panel.trace is not None]
    if not shown:
        drawing.draw(choice, look, [numbers.Cell(panel, 0, 0) for panel in panels], ())
        return [], ()
    picked = look.picked(shown[0].tokens)
    if choice.shown == compare_choice.ROLLOUT:
        drawing.start_choice(choice, shown[0], look.token(picked))
        cells = [numbers.Cell(panel, 0, 0) for panel in panels]
    else:
        cells = numbers.cells_of(panels, *compare_choice.heads_choice(shown[0], choice.mode))
    drawing.draw(choice, look, cells, picked)
    return [] if choice.shown == compare_choice.ROLLOUT else cells, picked


@ui.fragment
def page() -> None:
    choice = compare_choice.choose(ground)
    compare_choice.trained_words(choice)
    if not compare_choice.enough(choice):
        return
    panels = compare_panels.panels(ground, choice.variants, choice.mode, choice.found)
    shown = [panel for panel in panels if panel.trace is not None]
    with choice.row:
        look = ground.look(shown[0].tokens if shown else None)
    cells, picked = side_by_side(choice, look, panels)

    section(ground.page, "Gains and losses")
    size = costs.size_choice(ground)
    costs.verdicts(choice, size)
    if cells:
        drawing.draw_difference(choice, look, cells, picked)
    if choice.mode == compare_panels.SAME:
        section(ground.page, "Error against softmax")
        numbers.errors_table(panels, compare_panels.donor_trace(ground, choice.found))
    if shown:
        section(ground.page, "What the maps are like")
        numbers.numbers_table(ground, panels)

    section(ground.page, "What it costs")
    costs.cost_table(choice, size)
    timing.charts(choice)
    charts.accuracy_chart(choice)
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section(ground.page, "Heads that share keys")
    with chart:
        charts.sharing_panel(ground)
    section(ground.page, "What each one computes")
    explain(choice)


page()
ui.footer(ground.page)
