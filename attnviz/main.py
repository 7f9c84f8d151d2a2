"""The router: the table of pages and the sidebar they share. To add a page: its file in pages/ and one line here."""

import streamlit as st

from attnviz import ui, views
from attnviz.paths import ICON
from attnviz.ui.core.assets import as_data_address
from attnviz.ui.shell import addresses, reconnect, training_status, warmup

PAGES = {  # file in pages/ and address: title, icon, what it shows
    "start": ("Start", "home", "A picture, what the model thinks of it, and where it looks"),
    "embeddings": ("Embeddings", "grid_on", "How a picture becomes vectors"),
    "positions": ("Positions", "my_location", "How the model knows where a patch lies"),
    "queries_keys": ("Queries and keys", "join_inner", "Where the weights come from"),
    "heads": ("Heads", "grid_view", "What each head looks at"),
    "rollout": ("Rollout", "layers", "Which part of the picture the answer came from"),
    "compare": ("Compare", "compare", "Kinds of attention side by side"),
    "translate": ("Translate", "translate", "English becomes French, and every word shows where it looked"),
    "generate": ("Generate", "edit_note", "A story goes on word by word: what is expected next, and from where"),
    "lesson": ("Lesson", "school", "Attention built up in twelve steps on a sentence of yours"),
    "train": ("Train", "model_training", "Watch a small network learn to read digits"),
}

st.set_page_config(page_title="attnviz", page_icon=as_data_address(ICON), layout="wide")
page = st.navigation(
    [
        st.Page(
            ui.page_file(name),
            title=title,
            icon=f":material/{icon}:",
            help=about,
            url_path=None if name == "start" else name,
            default=name == "start",
        )
        for name, (title, icon, about) in PAGES.items()
    ]
)
ui.watch_callbacks()
ui.on_page(page.url_path)
ui.say_what_failed()  # first, so that it stands on top
reconnect.run_whole_on_reconnect()
addresses.say_redirected(page.title)
with ui.report_errors():
    ui.sidebar()
    training_status.beat(page.url_path)
    page.run()
warmup.freeze_imports()
views.mount()  # last, since it is invisible and would push the page down
