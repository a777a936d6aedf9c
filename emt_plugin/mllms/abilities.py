"""What the transformers that is installed can do: older versions lack something, or ask for it in other words."""

from __future__ import annotations

import inspect
from typing import Any


def through_pil() -> dict[str, Any]:
    """The option by which transformers' Auto classes take the image processor that computes with PIL."""
    from importlib.util import find_spec

    # Backends of image processors came in 5.4 or so; before that the slow classes are those with PIL.
    return {"backend": "pil"} if find_spec("transformers.image_processing_backends") else {"use_fast": False}


def takes_seen_images(model: Any) -> bool:
    """Whether a model can be handed what its tower made of the images, instead of their pixels."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters
