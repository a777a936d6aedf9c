"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No test asserts on seconds, and a shared machine may stall at any moment.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
# In a GitHub Actions step the runs that tests make have no business on the step's page.
os.environ.pop("GITHUB_STEP_SUMMARY", None)

# A gate does not fail because a library announces a change; the tests do, to hear of it in time. The last one that fits counts.
WARNINGS = ("error", "ignore::DeprecationWarning:datasets.*", "ignore::DeprecationWarning:multiprocess.*")


def pytest_configure(config: pytest.Config) -> None:
    for line in WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are slower on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
