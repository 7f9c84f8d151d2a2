"""The router: the table of pages and the sidebar they share. To add a page: its file in pages/ and one line here."""

from pathlib import Path

import streamlit as st

from attnviz import ui

PAGES = [
    st.Page("../pages/start.py", title="Start", icon=":material/home:", default=True),
    *(
        st.Page(f"../pages/{name}.py", title=title, url_path=name, icon=f":material/{icon}:")
        for name, title, icon in (
            ("embeddings", "Embeddings", "grid_on"),
            ("positions", "Positions", "my_location"),
            ("queries_keys", "Queries and keys", "join_inner"),
            ("heads", "Heads", "grid_view"),
            ("rollout", "Rollout", "layers"),
        )
        if (Path(__file__).parents[1] / "pages" / f"{name}.py").exists()
    ),
]

st.set_page_config(page_title="attnviz", page_icon=":material/visibility:", layout="wide")
page = st.navigation(PAGES)
with ui.guard():
    ui.sidebar()
    page.run()
