"""Compare: attention variants side by side on one picture or text, what they cost, and what each of them computes."""

import streamlit as st

from attnviz import ui
from attnviz.ui.compare import charts, costs, drawing, formulas, growth, guide, numbers, properties
from attnviz.ui.compare import choice as compare_choice
from attnviz.ui.compare import panels as compare_panels
from attnviz.ui.shell.prose import section

domain = compare_choice.current_domain()
ui.header(domain.page)


@ui.fragment
def page() -> None:
    if remark := domain.remark():
        st.caption(remark)
    choice = compare_choice.choose(domain)
    compare_choice.describe_bench(choice)
    if not compare_choice.enough(choice):
        return
    panels = compare_panels.panels(domain, choice.variants, choice.mode, choice.bench)
    traced = [panel for panel in panels if panel.trace is not None]
    with choice.row:
        style = domain.map_style(traced[0].tokens if traced else None)
    formulas.introduce(choice)
    heads, selected = drawing.side_by_side(choice, style, panels)
    compare_choice.describe_parameters(choice)
    formulas.details(choice)

    section(domain.page, "Which one to choose")
    use = guide.choose_use(domain)
    guide.show(domain, choice.bench, use)
    properties.property_table(domain, use.n, use.heads)

    section(domain.page, "Trade-offs")
    costs.trade_offs(choice, use.n)
    if heads:
        drawing.draw_difference(choice, style, heads, selected)
    if choice.mode == compare_panels.SHARED:
        section(domain.page, "Error against softmax")
        numbers.errors_table(panels, compare_panels.donor_trace(domain, choice.bench))
    if traced:
        section(domain.page, "Map statistics")
        numbers.statistics_table(domain, panels)

    section(domain.page, "Cost")
    costs.cost_table(choice, use.n)
    growth.charts(choice)
    charts.accuracy_chart(choice)
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section(domain.page, "Heads that share keys")
    with chart:
        charts.sharing_panel(domain)


page()
ui.footer(domain.page)
