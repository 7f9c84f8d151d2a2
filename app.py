"""The entry: `streamlit run app.py`. The pages are listed in attnviz/main.py; this file is what surrounds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from attnviz.paths import MAIN
from attnviz.ui.shell.addresses import KnownPages, page_names
from attnviz.ui.shell.first_paint import FirstPaint
from attnviz.ui.shell.reconnect import WholePageFirst
from attnviz.ui.shell.security import KnownHosts, SecurityHeaders
from attnviz.ui.shell.upload_limit import bound_uploads
from attnviz.ui.shell.warmup import warm_up

MultiPartParser.spool_max_size = 16 * 2**20  # no upload is larger (.streamlit/config.toml), so none goes to the disk


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[dict]:
    """Open the default model before the first visitor comes; what visitors upload has an end."""
    bound_uploads()
    await asyncio.to_thread(warm_up)
    yield {}


app = st.App(
    MAIN,
    lifespan=lifespan,
    middleware=[
        Middleware(SecurityHeaders),
        Middleware(KnownHosts),
        Middleware(GZipMiddleware, minimum_size=10_000),
        Middleware(FirstPaint),
        Middleware(KnownPages, pages=page_names()),
        Middleware(WholePageFirst),
    ],
)
