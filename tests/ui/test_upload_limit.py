"""What a visitor can upload through Streamlit's own address: as many pictures as they like, but few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from streamlit.runtime import Runtime

from attnviz.ui.shell import upload_limit
from attnviz.ui.shell.upload_limit import BYTES, FILES, BoundedFiles

SIZE = 1_000_000


class Server:
    """The app as visitors reach it, and what it holds of them."""

    def __init__(self, client: TestClient):
        self.client = client
        client.get("/_stcore/health")
        self.headers = {"X-Xsrftoken": client.cookies.get("_streamlit_xsrf", "")}

    @property
    def files(self) -> BoundedFiles:
        """The store."""
        manager = Runtime.instance().uploaded_file_mgr
        assert isinstance(manager, BoundedFiles)
        return manager

    def put(self, session: str, file: str, size: int = SIZE) -> Any:
        """Upload one file."""
        return self.client.put(
            f"/_stcore/upload_file/{session}/{file}",
            headers=self.headers,
            files={"file": ("a.png", b"x" * size, "image/png")},
        )

    def delete(self, session: str, file: str) -> Any:
        """Delete one."""
        return self.client.delete(f"/_stcore/upload_file/{session}/{file}", headers=self.headers)

    def held(self, session: str) -> list[str]:
        """The ids of what a session has."""
        return [*self.files.file_storage.get(session, {})]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The whole app without a socket; every session is taken for a visitor's. It cannot be started twice."""
    import app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "warm_up", lambda: None)
        with TestClient(app.app, base_url="http://localhost") as client:
            patch.setattr(Runtime, "is_active_session", lambda self, session_id: True)
            yield Server(client)


def test_fifty_pictures_one_after_the_other(server: Server) -> None:
    for number in range(50):
        assert server.put("patient", f"file-{number}").status_code == 204
        assert server.files.get_files("patient", [f"file-{number}"])[0].data == b"x" * SIZE
        if number % 2:  # the browser deletes what is replaced, unless the page was left before
            assert server.delete("patient", f"file-{number - 1}").status_code == 204
    assert len(server.held("patient")) <= FILES


def test_invented_ids_fill_nothing_and_spare_what_is_on_the_page(server: Server) -> None:
    server.put("inventive", "on-the-page")
    for number in range(30):
        assert server.files.get_files("inventive", ["on-the-page"])
        assert server.put("inventive", f"invented-{number}").status_code == 204
    assert "on-the-page" in server.held("inventive")
    assert len(server.held("inventive")) == FILES
    assert sum(len(file.data) for file in server.files.file_storage["inventive"].values()) == FILES * SIZE


def test_the_same_id_again_takes_no_more_room(server: Server) -> None:
    for name in ("a", "b", "c", "d", "d", "d"):
        server.put("steady", name)
    assert server.held("steady") == ["a", "b", "c", "d"][-FILES:]


def test_all_sessions_together_have_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BYTES >= 10 * FILES * 10_000_000
    for session in [*server.files.file_storage]:
        server.files.remove_session_files(session)  # as Streamlit does when a session ends
    monkeypatch.setattr(upload_limit, "BYTES", 5 * SIZE)
    answers = [server.put(f"visitor-{number}", "file") for number in range(7)]
    assert [answer.status_code for answer in answers] == [204] * 5 + [413] * 2
    assert answers[-1].text == upload_limit.FULL
    assert server.held("visitor-0") == ["file"], "nobody loses a picture to a stranger"
    server.files.remove_session_files("visitor-0")
    assert server.put("visitor-6", "file").status_code == 204
