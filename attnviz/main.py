"""The router: the table of pages and the sidebar they share. To add a page: its file in pages/ and one line here."""

import streamlit as st

from attnviz import ui, views
from attnviz.paths import ICON
from attnviz.ui.core.assets import as_data_address
from attnviz.ui.shell import addresses, reconnect, training_status, warmup

PAGES = {  # file in pages/ and address: title, icon, what it shows
    "start": ("Start", "home", "A picture or a text, the model's answer, and what attends to what"),
    "embeddings": ("Embeddings", "grid_on", "How patches and words become vectors"),
    "positions": (
        "Positions",
        "my_location",
        "How position enters: learned, sinusoidal, rotary and relative positions",
    ),
    "queries_keys": ("Queries and keys", "join_inner", "From query and key to attention weights"),
    "heads": ("Heads", "grid_view", "What each head attends to"),
    "explain": ("Explain", "layers", "Attribution: which tokens the answer depends on"),
    "test": ("Test", "experiment", "Take something away, and see what the answer loses"),
    "compare": ("Compare", "compare", "Attention variants side by side"),
    "translate": ("Translate", "translate", "English to French, with cross-attention for every word"),
    "generate": ("Generate", "edit_note", "Next-token prediction: probabilities, sampling, attention"),
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
