"""Compare: kinds of attention side by side on one picture or text, what they cost, and what each of them computes."""

import streamlit as st

from attnviz import ui
from attnviz.ui import compare, compare_charts, compare_costs, compare_live, compare_panels, compare_show
from attnviz.ui import compare_numbers as numbers
from attnviz.ui.compare_explain import explain
from attnviz.ui.compare_ground import Look, Panel
from attnviz.ui.prose import section

ground = compare.ground()
ui.header(ground.page)


def side_by_side(choice: compare.Choice, look: Look, panels: list[Panel]) -> tuple[list[numbers.Cell], tuple[int, ...]]:
    """The panels in the heads that were chosen; which heads and which token are returned for what stands below."""
    shown = [panel for panel in panels if panel.trace is not None]
    if not shown:
        compare_show.draw(choice, look, [numbers.Cell(panel, 0, 0) for panel in panels], ())
        return [], ()
    picked = look.picked(shown[0].tokens)
    if choice.shown == compare.ROLLOUT:
        compare_show.start_choice(choice, shown[0], look.token(picked))
        cells = [numbers.Cell(panel, 0, 0) for panel in panels]
    else:
        cells = numbers.cells_of(panels, *compare.heads_choice(shown[0], choice.mode))
    compare_show.draw(choice, look, cells, picked)
    return [] if choice.shown == compare.ROLLOUT else cells, picked


@ui.fragment
def page() -> None:
    choice = compare.choose(ground)
    compare.trained_words(choice)
    if not compare.enough(choice):
        return
    panels = compare_panels.panels(ground, choice.variants, choice.mode, choice.found)
    shown = [panel for panel in panels if panel.trace is not None]
    with choice.row:
        look = ground.look(shown[0].tokens if shown else None)
    cells, picked = side_by_side(choice, look, panels)

    section(ground.page, "Gains and losses")
    size = compare_costs.size_choice(ground)
    compare_costs.verdicts(choice, size)
    if cells:
        compare_show.draw_difference(choice, look, cells, picked)
    if choice.mode == compare_panels.SAME:
        section(ground.page, "Error against softmax")
        numbers.errors_table(panels, compare_panels.lender(ground, choice.found))
    if shown:
        section(ground.page, "What the maps are like")
        numbers.numbers_table(ground, panels)

    section(ground.page, "What it costs")
    compare_costs.cost_table(choice, size)
    compare_live.charts(choice)
    compare_charts.accuracy_chart(choice)
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section(ground.page, "Heads that share keys")
    with chart:
        compare_charts.sharing_panel(ground)
    section(ground.page, "What each one computes")
    explain(choice)


page()
ui.footer(ground.page)
