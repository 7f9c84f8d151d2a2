"""Bringing a model from the hub: what it costs, its progress, how it is stopped. No pickles and no code come along."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from attnviz.hub.errors import CannotOpen
from attnviz.hub.network import one_sentence
from attnviz.hub.source import Cost

NEEDED = ("*.json", "*.safetensors", "*.txt", "*.model")
LEFT_OUT = ("onnx/*", "openvino/*", "coreml/*", "original/*")  # the same weights again, for other programs
WEIGHTS = ".safetensors"


class Cancelled(Exception):
    """The download was stopped on request; what has come stays and is not asked for again."""


def downloaded(
    repository: str,
    revision: str | None,
    progress: Callable[[float], object] = lambda share: None,
    cancel: Event | None = None,
) -> Path:
    """The folder of a repository of the hub, downloaded unless it is there already.

    `progress` is told the share of the bytes that have come, `cancel` is looked at as they do. Raises CannotOpen,
    Cancelled.
    """
    import huggingface_hub

    with in_words(repository, revision):
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(NEEDED),
                ignore_patterns=list(LEFT_OUT),
                tqdm_class=bar(progress, cancel or Event()),
            )
        )


def cost_of(repository: str, revision: str | None) -> Cost:
    """What a repository would cost: only names and sizes are asked for. Raises CannotOpen."""
    import huggingface_hub

    with in_words(repository, revision):
        about = huggingface_hub.HfApi().model_info(repository, revision=revision)  # which says why, where it cannot
        files = huggingface_hub.snapshot_download(
            repository,
            revision=about.sha,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(LEFT_OUT),
            dry_run=True,
            tqdm_class=bar(lambda share: None, Event()),
        )
        weights = [file for file in files if file.filename.endswith(WEIGHTS)]
        if not weights:
            raise CannotOpen(f"{repository} has no weights as safetensors; those that are pickled are not opened")
        known = about.safetensors
        most = 2 * sum(file.file_size or 0 for file in weights)  # if they are stored in half precision
        return Cost(
            sum(file.file_size or 0 for file in files if file.will_download), 4 * known.total if known else most
        )


def bar(progress: Callable[[float], object], cancel: Event) -> type:
    """A progress bar as the library wants one, which draws nothing: it tells its share, and stops where it has to."""
    from tqdm.auto import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            if cancel.is_set():
                raise Cancelled
            drawn = super().update(n)
            if self.unit == "B" and self.total:
                progress(min(1.0, self.n / self.total))
            return drawn

    return Silent


@contextmanager
def in_words(repository: str, revision: str | None) -> Iterator[None]:
    """Whatever the library raises, in one sentence with the next step. Raises CannotOpen, Cancelled."""
    from huggingface_hub import errors

    try:
        yield
    except (CannotOpen, Cancelled):
        raise
    except errors.GatedRepoError as error:
        reason = "is gated: accept its conditions on its page, log in with `hf auth login`, and try again"
        raise CannotOpen(f"{repository} {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise CannotOpen(f"{repository} has no revision {revision}; leave it out for the newest") from error
    except errors.RepositoryNotFoundError as error:
        raise CannotOpen(f"the hub has no public model {repository}; its name is owner/name") from error
    except errors.HFValidationError as error:
        raise CannotOpen(f"{repository!r} is no name of the hub; it is owner/name, or owner/name@revision") from error
    except Exception as error:  # of the network, of the disk, of the library: it may be any
        raise CannotOpen(
            f"{repository} could not be downloaded ({one_sentence(error)}); make sure of the internet, or name a folder"
        ) from error
