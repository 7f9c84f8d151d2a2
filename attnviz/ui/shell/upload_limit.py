"""How many uploads the server keeps: few of one visitor, so many bytes of all.

Streamlit takes an upload under any file id and keeps it until the session ends, whether or not a widget ever asked for
it. Here a session keeps the files that were read last: those of the widgets on the page, which are read on every run.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

FILES = 4  # of one session: a page has three widgets that hold one, and one more comes while another is replaced
BYTES = 400_000_000  # of all sessions
FULL = "The server has no memory left for another picture. Try again in a moment."


class BoundedFiles(MemoryUploadedFileManager):
    """Streamlit's store of uploads, with an end: what a session has not read for longest gives way to a new file."""

    def add_file(self, session_id: str, file: UploadedFileRec) -> None:
        """Keep a file. Raises HTTPException (413) where all sessions together hold too much already."""
        with self._lock:
            held = [*self.file_storage.get(session_id, {})]
        for file_id in [held_id for held_id in held if held_id != file.file_id][: -(FILES - 1)]:
            self.remove_file(session_id, file_id)
        if self._total_bytes + len(file.data) > BYTES:
            raise HTTPException(413, FULL)
        super().add_file(session_id, file)

    def get_files(self, session_id: str, file_ids: Sequence[str]) -> list[UploadedFileRec]:
        """The files of these ids, which are now the last to give way."""
        with self._lock:
            held = self.file_storage.get(session_id, {})
            for file_id in file_ids:
                if file_id in held:
                    held[file_id] = held.pop(file_id)
        return super().get_files(session_id, file_ids)


def bound_uploads() -> None:
    """Give the store of the running server its end; whoever holds it already holds the same object."""
    Runtime.instance().uploaded_file_mgr.__class__ = BoundedFiles
