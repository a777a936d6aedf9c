"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No test asserts on seconds, and a shared machine may stall at any moment.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
# In a GitHub Actions step the runs that tests make have no business on the step's page.
os.environ.pop("GITHUB_STEP_SUMMARY", None)
