"""What the transformers that is installed can do: older versions lack something."""

from __future__ import annotations

import inspect
from typing import Any


def takes_seen_images(model: Any) -> bool:
    """Whether a model can be handed what its tower made of the images, instead of their pixels."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters
