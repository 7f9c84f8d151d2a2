"""A tab that comes back, to a server that may have been started again: its page runs whole, and no click is lost.

A server started again knows nothing of a tab that is still open, nor does one after `disconnectedSessionTTL` seconds.
The tab comes back by itself, but Streamlit then waits for a click; and the click asks to run a part of the page that
the new session has never heard of, which Streamlit drops with a line in its log.
"""

from __future__ import annotations

import streamlit as st
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

SELDOM = 86_400  # seconds: any number that a browser's timer can hold would do


@st.fragment(run_every=SELDOM)
def run_whole_on_reconnect() -> None:
    """Make the tab ask for a whole run as soon as it is connected again; called on every run, outside of any fragment.

    There is nothing to do here: a browser with a part on its page that runs by the clock cannot know how much it has
    missed, so Streamlit's asks for everything, with the state of every widget and the address.
    """


class WholePageFirst:
    """ASGI middleware: until the page of a tab that came back has run whole, any click runs the whole page."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but what a tab with an earlier session asks for before its first whole run has ended."""
        if scope["type"] != "websocket" or not comes_back(scope):
            await self.app(scope, receive, send)
            return
        whole = False

        async def receive_for_all() -> Message:
            message = await receive()
            return message if whole or not message.get("bytes") else {**message, "bytes": for_all(message["bytes"])}

        async def send_watched(message: Message) -> None:
            nonlocal whole
            whole = whole or ends_whole_run(message.get("bytes") or b"")
            await send(message)

        await self.app(scope, receive_for_all, send_watched)


def comes_back(scope: Scope) -> bool:
    """Whether a tab names the session it had, which the browser sends as third of its subprotocols."""
    return len(scope.get("subprotocols", ())) > 2


def for_all(sent: bytes) -> bytes:
    """What the browser sent; where it asks to run a part of the page after a click, it now asks for all of it."""
    try:
        asked = BackMsg.FromString(sent)
    except DecodeError:
        return sent  # Streamlit's to refuse
    if not asked.rerun_script.fragment_id or asked.rerun_script.is_auto_rerun:
        return sent
    asked.rerun_script.ClearField("fragment_id")
    return asked.SerializeToString()


def ends_whole_run(sent: bytes) -> bool:
    """Whether the server says with this message that it has run the whole script to its end."""
    answer = ForwardMsg.FromString(sent)
    return answer.WhichOneof("type") == "script_finished" and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
