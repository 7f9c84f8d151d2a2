"""Compare: kinds of attention side by side on one picture, what they cost, and what each of them computes."""

import streamlit as st

from attnviz import ui
from attnviz.ui import compare, compare_charts, compare_costs, compare_live, compare_panels, compare_show
from attnviz.ui import compare_numbers as numbers
from attnviz.ui.bench import bench
from attnviz.ui.compare_explain import explain
from attnviz.ui.heads import middle
from attnviz.ui.prose import section

ui.header("compare")


def side_by_side(choice: compare.Choice, panels: list[compare_panels.Panel]) -> tuple[list[numbers.Cell], tuple]:
    """The panels in the heads that were chosen; which heads and which patch are returned for what stands below."""
    shown = [panel for panel in panels if panel.trace is not None]
    if not shown:
        compare_show.draw(choice, [numbers.Cell(panel, 0, 0) for panel in panels], ())
        return [], ()
    tokens = compare_show.tokens_of_first(shown)
    picked = ui.chosen_tokens("token", len(tokens), (middle(tokens),))[-1:]
    if choice.shown == compare.ROLLOUT:
        compare_show.start_choice(tokens, picked[0])
        cells = [numbers.Cell(panel, 0, 0) for panel in panels]
    else:
        cells = numbers.cells_of(panels, *compare.heads_choice(shown[0], choice.mode))
    compare_show.draw(choice, cells, picked)
    return [] if choice.shown == compare.ROLLOUT else cells, picked


@ui.fragment
def page() -> None:
    found = bench()
    choice = compare.choose(found)
    compare.trained_words(choice, found)
    if not compare.enough(choice):
        return
    panels = compare_panels.panels(choice.variants, choice.mode, found)
    cells, picked = side_by_side(choice, panels)

    section("compare", "Gains and losses")
    size = compare_costs.size_choice()
    compare_costs.verdicts(choice.variants, size, found)
    if cells:
        compare_show.draw_difference(choice, cells, picked)
    if choice.mode == compare_panels.SAME:
        section("compare", "Error against softmax")
        numbers.errors_table(panels, compare_panels.lender(found))
    if any(panel.trace is not None for panel in panels):
        section("compare", "What the maps are like")
        numbers.numbers_table(panels)

    section("compare", "What it costs")
    compare_costs.cost_table(choice.variants, size, found)
    compare_live.charts(choice.variants)
    compare_charts.accuracy_chart(choice.variants, found)
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section("compare", "Heads that share keys")
    with chart:
        compare_charts.sharing_panel()
    section("compare", "What each one computes")
    explain(choice.variants)


page()
ui.footer("compare")
