"""What every test shares: one torch thread, and the marks that say what a test needs."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from attnviz.training.images.data import NoData, data_folder

MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def main_module() -> None:
    """Streamlit's AppTest leaves its script as `__main__`, which a process that a later test starts would run again."""
    sys.modules["__main__"] = MAIN


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """As in the app: several threads make small networks slower and results differ in the last bit."""
    torch.set_num_threads(1)


@pytest.fixture
def random() -> torch.Generator:
    """A generator of its own for each test, so that tests do not depend on their order."""
    return torch.Generator().manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the training data where it is absent; with CI=true that is a failure.

    ATTNVIZ_DATA=none says that it is absent by design, so that a data test is skipped there too.
    """
    if item.get_closest_marker("data") is None:
        return
    try:
        data_folder()
    except NoData as error:
        if os.environ.get("CI") == "true" and os.environ.get("ATTNVIZ_DATA") != "none":
            raise
        pytest.skip(str(error))
