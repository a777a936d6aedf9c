"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# No test asserts on seconds, and a shared machine may stall at any moment.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
