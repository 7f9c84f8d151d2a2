"""The router: the menu of pages and the sidebar they share. The pages are listed in ui/shell/menu.py."""

import streamlit as st

from attnviz import ui, views
from attnviz.paths import ICON
from attnviz.ui.core.assets import as_data_address
from attnviz.ui.shell import addresses, arrival, menu, reconnect, training_status, warmup


def opened(name: str) -> st.Page:
    """One page for the menu; the first one has the address of the app itself."""
    entry, first = menu.MENU[name], name == next(iter(menu.MENU))
    return st.Page(
        ui.page_file(name),
        title=entry.title,
        icon=f":material/{entry.icon}:",
        help=entry.about,
        url_path=None if first else name,
        default=first,
    )


st.set_page_config(page_title="attnviz", page_icon=as_data_address(ICON), layout="wide")
ui.take_chosen()  # which page there is depends on what the model reads
page = st.navigation({group: [opened(name) for name in names] for group, names in menu.groups().items()}, expanded=True)
ui.watch_callbacks()
ui.on_page(page.url_path)
ui.say_what_failed()  # first, so that it stands on top
reconnect.run_whole_on_reconnect()
addresses.say_redirected(page.title)
asked, place = arrival.read_address(), st.empty()
with ui.report_errors():
    ui.sidebar()
    training_status.beat(page.url_path)
    page.run()
    arrival.say_what_is_not_here(asked, place)
warmup.freeze_imports()
views.mount()  # last, since it is invisible and would push the page down
