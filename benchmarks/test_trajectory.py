"""The gate along a fine-tuning run: is every checkpoint still as good as the model that it started from, on the same images?

``pytest benchmarks --model BASE --checkpoint 'runs/my-run/checkpoint-*'``; without ``--checkpoint`` this file has no test.
"""

from __future__ import annotations

from emt_plugin.pytest_plugin.fixtures import Measurement


def test_trajectory(emt_checkpoint: Measurement) -> None:
    """One checkpoint on one image set: its accuracy stays within the tolerance of the base's."""
    emt_checkpoint.assert_not_forgotten()
