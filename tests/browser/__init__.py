"""The HTML report in a real browser."""

import pytest

# A failed check says what it found.
pytest.register_assert_rewrite("tests.browser.checks")
