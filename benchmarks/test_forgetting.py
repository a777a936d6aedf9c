"""The gate: does a multimodal LLM still classify as well as its reference, on the same images?"""

from __future__ import annotations

from emt_plugin.pytest_plugin.fixtures import Measurement


def test_forgetting(emt_measurement: Measurement) -> None:
    """One model on one image set: its accuracy stays within the tolerance of its reference's."""
    emt_measurement.assert_not_forgotten()
