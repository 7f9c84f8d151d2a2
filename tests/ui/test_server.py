"""The server as it is started: what it says, whom it answers, what it asks of others, and a tab that comes back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from attnviz.paths import ROOT
from attnviz.ui.shell import addresses, reconnect, security
from tests.browser.conftest import start_server, stop_server

ASKED = "asked of a foreign host:"
SPY = f"""
import socket, sys

def watched(call):
    def seen(self, address, *rest):
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            print("{ASKED}", address, file=sys.stderr, flush=True)
            raise OSError("no other host is asked for anything")
        return call(self, address, *rest)
    return seen

def looked_up(host, *rest, resolve=socket.getaddrinfo, **more):
    if host not in (None, "localhost", "127.0.0.1", "::1"):
        print("{ASKED}", host, file=sys.stderr, flush=True)
        raise OSError("no other host is looked up")
    return resolve(host, *rest, **more)

socket.socket.connect = watched(socket.socket.connect)
socket.socket.connect_ex = watched(socket.socket.connect_ex)
socket.getaddrinfo = looked_up
"""


class Running(NamedTuple):
    """A server that was started for these tests."""

    address: str
    log: Path

    @property
    def stream(self) -> str:
        """Where its websocket is."""
        return f"ws://{urlsplit(self.address).netloc}/_stcore/stream"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The app in a process of its own, which writes down whatever it wants of another host."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "sitecustomize.py").write_text(SPY)
    process, address = start_server(folder / "log.txt", environment={"PYTHONPATH": str(folder)})
    yield Running(address, folder / "log.txt")
    stop_server(process)


def rerun(fragment: str = "", *, by_the_clock: bool = False, page: str = "") -> bytes:
    """What a browser sends to have a page run, or a part of it."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    asked.rerun_script.query_string = "model=vit-digits"
    asked.rerun_script.fragment_id = fragment
    asked.rerun_script.is_auto_rerun = by_the_clock
    return asked.SerializeToString()


def answers(tab: ClientConnection) -> Iterator[ForwardMsg]:
    """What the server sends until a run has ended."""
    while True:
        data = tab.recv(timeout=60)
        assert isinstance(data, bytes)
        yield (answer := ForwardMsg.FromString(data))
        if answer.WhichOneof("type") == "script_finished":
            return


def kinds_until_quiet(tab: ClientConnection) -> list[str | None]:
    """The kinds of all messages that come before two seconds of silence."""
    kinds = []
    with contextlib.suppress(TimeoutError):
        while isinstance(data := tab.recv(timeout=2), bytes):
            kinds.append(ForwardMsg.FromString(data).WhichOneof("type"))
    return kinds


# ---- what it says and what it asks


def test_nothing_but_the_address_is_said_until_the_first_page_is_there(running: Running):
    with connect(running.stream, subprotocols=["streamlit"], max_size=None) as tab:  # type: ignore[list-item]
        tab.send(rerun())
        assert [*answers(tab)][-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
    said = [line.strip() for line in running.log.read_text().splitlines() if line.strip()]
    assert len(said) == 2, said
    assert said[1].startswith("URL: http://localhost:")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1.evil.example:80", "null", "http://8.8.8.8"]
)
def test_a_foreign_origin_is_refused_and_nobody_is_asked(origin: str, running: Running):
    with pytest.raises(InvalidStatus) as refused, connect(running.stream, origin=origin):  # type: ignore[arg-type]
        pass
    assert refused.value.response.status_code == 403
    assert security.FOREIGN_ORIGIN.encode() == refused.value.response.body
    assert ASKED not in running.log.read_text()


@pytest.mark.parametrize("origin", ["http://[::1]:8501", "http://localhost:1", "http://127.0.0.1"])
def test_an_origin_of_this_machine_is_taken_and_nobody_is_asked(origin: str, running: Running):
    with connect(running.stream, origin=origin):  # type: ignore[arg-type]
        pass
    assert ASKED not in running.log.read_text()


def test_the_spy_sees_what_is_asked_of_others(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(SPY)
    ask = "from streamlit import net_util as n; n.get_internal_ip(); n.get_external_ip()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert "8.8.8.8" in said.stderr
    assert "checkip" in said.stderr


def test_only_this_machine_reaches_it_by_default(running: Running):
    import tomllib

    assert tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["server"]["address"] == "127.0.0.1"
    _, port = urlsplit(running.address).netloc.split(":")
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", int(port))) != 0  # as any address of this machine but the one


# ---- whom it answers


def guarded(hosts: str = "") -> TestClient:
    """A small app that is guarded by its host names, and says which origin it was told of."""

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.headers.get("origin", ""))
        await socket.close()

    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here")), WebSocketRoute("/", talk)])
    app.add_middleware(security.KnownHosts, hosts=hosts)
    return TestClient(app)


OURS = ["localhost", "localhost:8501", "LocalHost.:80", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8501"]
FOREIGN = ["", "evil.example", "localhost.evil.example", "evil.example:8501", "localhost@evil.example"]
FOREIGN += ["127.0.0.1.nip.io", "0.0.0.0:8501", "192.168.1.5:8501", "::1", "[::2]:8501"]
FOREIGN += ["localhost:80:80", "localhost/x", "local\thost"]


@pytest.mark.parametrize("host", OURS)
def test_names_of_this_machine_are_answered(host: str):
    client = guarded()
    assert client.get("/", headers={"host": host}).text == "here"
    with client.websocket_connect("/", headers={"host": host}) as tab:
        assert tab.receive_text() == ""


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_name_is_refused_with_a_sentence(host: str):
    client = guarded()
    answer = client.get("/", headers={"host": host})
    assert (answer.status_code, answer.text) == (400, security.FOREIGN_HOST)
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/", headers={"host": host}):
        pass
    assert (refused.value.status_code, refused.value.text) == (400, security.FOREIGN_HOST)
    answer = client.get("/", headers={"host": "localhost", "origin": f"http://{host}"})
    assert (answer.status_code, answer.text) == (403, security.FOREIGN_ORIGIN)


def test_more_names_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    def status(hosts: str, host: str) -> int:
        monkeypatch.setenv(security.MORE_HOSTS, hosts)
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
        app.add_middleware(security.KnownHosts)
        return TestClient(app).get("/", headers={"host": host}).status_code

    two = "attn.example.org, 192.168.1.5"
    assert status(two, "attn.example.org") == status(two, "192.168.1.5:8501") == status(two, "localhost") == 200
    assert status(two, "example.org") == status(two, "x.attn.example.org") == status("", "attn.example.org") == 400
    assert status("*.example.org", "a.example.org") == status("*", "any.thing") == 200
    assert status("*.example.org", "example.org") == status("*.example.org", "badexample.org") == 400


def test_an_origin_of_ours_under_another_name_is_handed_on_as_the_same():
    with guarded("attn.example.org").websocket_connect(
        "/", headers={"host": "localhost:8501", "origin": "https://attn.example.org"}
    ) as tab:
        assert tab.receive_text() == "http://localhost:8501"


# ---- addresses that are no page


@pytest.fixture(scope="module")
def pages() -> TestClient:
    """A small app that answers as Streamlit does: its HTML nearly everywhere."""

    def answer(request) -> PlainTextResponse | HTMLResponse:
        closed = request.url.path.endswith("/_stcore/health")
        return PlainTextResponse("", 404) if closed else HTMLResponse("<p>the app</p>")

    app = Starlette(routes=[Route("/{path:path}", answer)])
    app.add_middleware(addresses.KnownPages, pages=addresses.page_names())
    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/heads", "/compare?model=vit", "/queries_keys"])
def test_a_page_is_served(path: str, pages: TestClient):
    assert pages.get(path).text == "<p>the app</p>"


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/heads/x", "../heads?redirected=1"),
        ("/heads/x/y?model=vit&layer=2", "../../heads?model=vit&layer=2&redirected=1"),
        ("/nonsense", "./?redirected=1"),
        ("/nonsense/heads", "../?redirected=1"),
        ("/start", "./?redirected=1"),
        ("/rollout", "./explain"),  # as the page was called before
        ("/rollout?model=vit&fusion=max", "./explain?model=vit&fusion=max"),
        ("/rollout/x", "../explain?redirected=1"),
    ],
)
def test_any_other_address_leads_to_the_nearest_page(path: str, leads: str, pages: TestClient):
    answer = pages.get(path)
    assert (answer.status_code, answer.headers["location"]) == (302, leads)
    assert "the app" not in answer.text


def test_what_is_not_html_stays_as_it_is(pages: TestClient):
    assert pages.get("/heads/_stcore/health").status_code == 404


# ---- a tab that comes back


def test_a_click_in_a_part_the_server_does_not_know_runs_the_whole_page(running: Running):
    tokens = ["streamlit", "no-token", "a-session-of-a-server-before"]
    with connect(running.stream, subprotocols=tokens, max_size=None) as tab:  # type: ignore[arg-type]
        tab.send(rerun("of a server before"))
        first = [*answers(tab)]
        assert "new_session" in [answer.WhichOneof("type") for answer in first]
        assert first[-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY  # not that of a part
        tab.send(rerun("of a server before"))  # from now on a part that is not there is Streamlit's to drop
        assert "new_session" not in kinds_until_quiet(tab)


@pytest.mark.parametrize("page", sorted({"", *addresses.page_names()}))
def test_every_page_makes_its_tab_ask_for_all_of_it_when_it_comes_back(page: str, running: Running):
    with connect(running.stream, subprotocols=["streamlit"], max_size=None) as tab:  # type: ignore[list-item]
        tab.send(rerun(page=page))
        clocks = [answer.auto_rerun for answer in answers(tab) if answer.WhichOneof("type") == "auto_rerun"]
    assert reconnect.SELDOM in [clock.interval for clock in clocks]
    assert all(clock.interval < 2**31 / 1000 for clock in clocks)  # a browser's timer goes off at once above


def test_only_a_click_of_a_tab_that_comes_back_is_widened():
    assert reconnect.for_all(rerun("a part")) == rerun()
    for other in (
        rerun(),
        rerun("a part", by_the_clock=True),
        BackMsg(stop_script=True).SerializeToString(),
        b"\xff\xff",
    ):
        assert reconnect.for_all(other) == other
    assert reconnect.comes_back({"type": "websocket", "subprotocols": ["streamlit", "", "session"]})
    assert not reconnect.comes_back({"type": "websocket", "subprotocols": ["streamlit", ""]})
    assert not reconnect.comes_back({"type": "websocket"})


def test_a_whole_run_has_ended_only_when_it_says_so():
    ended = ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY)
    assert reconnect.ends_whole_run(ended.SerializeToString())
    early = (ForwardMsg.FINISHED_EARLY_FOR_RERUN, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
    assert not any(reconnect.ends_whole_run(ForwardMsg(script_finished=how).SerializeToString()) for how in early)
    assert not reconnect.ends_whole_run(b"")
