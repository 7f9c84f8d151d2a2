"""The processes that read pictures: quick to start, ended when stuck, and never in the way of other visitors."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from attnviz.models import pictures
from attnviz.models.picture_files import BadImage, TooMuchWork
from attnviz.ui.core import cache
from attnviz.ui.core.cache import Busy
from attnviz.ui.inputs import decoding, uploads
from attnviz.ui.inputs.decoding import Decoders
from tests.ui.test_uploads import empty_png, quarters, saved

PNG = saved(quarters())


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """One process of the app's own kind, for this test."""
    made = Decoders(most=1)
    yield made
    made.close()


def odd(tmp_path: Path, answer: str, **options: float) -> Decoders:
    """Processes that do `answer` with every file whose first byte is X, and read all others as the app does."""
    script = tmp_path / "odd.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys, time
            sys.path.insert(0, {str(decoding.WORKER.parent)!r})
            import decoding_worker
            answer = decoding_worker.answer
            def odd(raw):
                if raw[:1] == b"X":
                    {answer}
                return answer(raw)
            decoding_worker.answer = odd
            decoding_worker.main()
            """
        )
    )
    return Decoders((sys.executable, "-I", str(script), *filter(None, sys.path)), **options)


def test_a_picture_comes_back_as_it_is_read_here(decoders: Decoders):
    for raw in (PNG, saved(quarters(3000, 2400), "JPEG"), saved(quarters(5, 4))):
        assert decoders.decode(raw).tobytes() == pictures.decode(raw).tobytes()
    assert len(decoders.idle) == 1


def test_a_sentence_comes_back_word_for_word(decoders: Decoders):
    for raw in (b"", b"GIF89a", PNG[:80], b"\xff\xd8" + b"\xff\xe3\0\2" * 100_000):
        with pytest.raises(BadImage) as there:
            decoders.decode(raw)
        with pytest.raises(BadImage) as here:
            pictures.decode(raw)
        assert str(there.value) == str(here.value)
    assert here.type is TooMuchWork
    assert len(decoders.idle) == 1


def test_the_process_knows_neither_torch_nor_streamlit():
    code = (
        f"import sys; sys.argv = sys.argv[:1]; sys.path.insert(0, {str(decoding.WORKER.parent)!r}); "
        "import decoding_worker; decoding_worker.import_lightly(); import attnviz.models.pictures; "
        "print({'torch', 'streamlit', 'jaxtyping'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_stuck_process_is_ended_and_the_next_picture_is_read(tmp_path: Path):
    made = odd(tmp_path, "time.sleep(600)", most=1, limit=0.5)
    assert made.decode(PNG).size == (64, 48)
    stuck = made.idle[0].process
    with pytest.raises(BadImage, match="longer"):
        made.decode(b"X")
    assert stuck.poll() is not None
    made.limit = 60
    assert made.decode(PNG).size == (64, 48)
    made.close()


def test_a_crash_is_a_sentence_and_the_next_picture_is_read(tmp_path: Path):
    made = odd(tmp_path, "os._exit(11)", most=1)
    for _ in range(2):
        with pytest.raises(BadImage, match="damaged"):
            made.decode(b"X")
        assert made.decode(PNG).size == (64, 48)
    made.close()


def test_what_a_library_prints_does_not_come_between(tmp_path: Path):
    made = odd(tmp_path, "print('noise', flush=True); os.write(1, b'noise'); return answer(raw[1:])", most=1)
    assert made.decode(b"X" + PNG).size == (64, 48)
    made.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="says how much memory a process has")
def test_too_little_memory_is_said_to_be_that(tmp_path: Path):
    now = "int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')"
    made = odd(tmp_path, f"decoding_worker.limit('RLIMIT_AS', {now} + 60 * 2**20); raw = raw[1:]", most=1)
    with pytest.raises(MemoryError):
        made.decode(b"X" + empty_png(5000, 5000))
    made.close()


def test_a_process_that_does_not_start_is_our_fault(tmp_path: Path):
    made = Decoders((sys.executable, "-I", str(tmp_path / "missing.py")), most=1)
    with pytest.raises(RuntimeError, match="did not start"):
        made.decode(PNG)
    assert made.permits.acquire(blocking=False)


def test_a_stuck_picture_keeps_nobody_from_computing_and_others_are_read_beside_it(tmp_path: Path):
    made, ended = odd(tmp_path, "time.sleep(600)", most=2, limit=600), threading.Event()

    def bring() -> None:
        with pytest.raises(BadImage):
            made.decode(b"X")
        ended.set()

    made.start()
    worker = made.idle[0]
    visitor = threading.Thread(target=bring)
    visitor.start()
    while not worker.ready:  # until the stuck picture's process has started: ended before, it would be our fault
        threading.Event().wait(0.01)
    for _ in range(3):
        assert made.decode(PNG).size == (64, 48)
    permits = [cache.cores().acquire(blocking=False) for _ in range(os.cpu_count() or 1)]
    assert all(permits), "reading a picture holds a permit to compute"
    for _ in permits:
        cache.cores().release()
    assert not ended.is_set()
    worker.process.kill()
    visitor.join()
    made.close()


def test_who_waits_too_long_for_a_process_is_told_so(decoders: Decoders):
    decoders.patience = 0.01
    with decoders.permits, pytest.raises(Busy):
        decoders.decode(PNG)
    assert decoders.decode(PNG).size == (64, 48)


def test_who_waits_behind_a_stuck_picture_gets_through():
    assert decoding.PATIENCE > decoding.LIMIT


def test_few_processes_are_kept(decoders: Decoders):
    workers = [decoders.taken() for _ in range(4)]
    for worker in workers:
        decoders.put_back(worker)
    assert len(decoders.idle) == decoding.KEPT
    assert sum(worker.process.poll() is None for worker in workers) == decoding.KEPT


def test_a_process_that_has_died_meanwhile_is_replaced(decoders: Decoders):
    decoders.start()
    decoders.idle[0].process.kill()
    decoders.idle[0].process.wait()
    assert decoders.decode(PNG).size == (64, 48)


def test_a_process_ends_when_the_app_does(decoders: Decoders):
    decoders.decode(PNG)
    worker = decoders.idle[0].process
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(60) == 0


def test_every_upload_goes_this_way(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(uploads.DECODERS, "decode", lambda raw: asked.append(raw) or Image.new("RGB", (5, 5)))
    assert uploads.decode(b"a file").image.size == (5, 5)
    assert asked == [b"a file"]


def test_the_limits_of_the_process_are_set_where_there_are_any(monkeypatch: pytest.MonkeyPatch):
    from attnviz.ui.inputs import decoding_worker

    decoding_worker.limit("RLIMIT_OF_NO_SYSTEM", 1)
    monkeypatch.setattr(decoding_worker, "resource", None)
    decoding_worker.limit("RLIMIT_AS", 1)
    files = io.BytesIO(decoding_worker.LENGTH.pack(len(PNG)) + PNG)
    answers = io.BytesIO()
    decoding_worker.serve(files, answers)
    assert answers.getvalue()[:1] == decoding_worker.PICTURE
