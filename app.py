"""The entry: `streamlit run app.py`. Pages are listed in attnviz/main.py; this file adds what surrounds them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from attnviz.ui.security import SecurityHeaders
from attnviz.ui.warm import warm


@asynccontextmanager
async def lifespan(app):
    """Open the default model before the first visitor comes; a damaged one is reported by the pages, not here."""
    try:
        await asyncio.to_thread(warm)
    except Exception:  # an exception here would end the server
        logging.getLogger("attnviz").exception("the default model could not be opened")
    yield {}


app = st.App(
    "attnviz/main.py",
    lifespan=lifespan,
    middleware=[Middleware(SecurityHeaders), Middleware(GZipMiddleware, minimum_size=10_000)],
)
