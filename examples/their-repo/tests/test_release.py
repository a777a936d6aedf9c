"""What has to hold before a model of this repository is released."""

from __future__ import annotations

import pytest

IMAGE_SETS = {"digits-mini": 0.05, "mnist-mini": 0.05}


@pytest.mark.parametrize("image_set", IMAGE_SETS)
def test_it_classifies_as_well_as_its_encoder(emt, image_set: str) -> None:
    """Tolerances are policy, and stand here, where a change of them is reviewed."""
    emt.check(model="ours", image_set=image_set, tolerance=IMAGE_SETS[image_set])
