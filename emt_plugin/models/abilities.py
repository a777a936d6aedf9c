"""What the transformers that is installed can do: older versions lack something."""

from __future__ import annotations

import inspect
from typing import Any


def takes_seen_images(model: Any) -> bool:
    """Whether a model can be handed what its tower made of the images, instead of their pixels."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters


def with_cache(part: Any, cache: Any) -> dict[str, Any]:
    """A cache as a model or a part of one takes it: by the name that its forward has for one, which versions change."""
    return {"cache" if "cache" in inspect.signature(type(part).forward).parameters else "past_key_values": cache}


def cache_in(made: Any) -> Any:
    """The cache in what a model made, by whichever name."""
    return made["cache"] if "cache" in made else made["past_key_values"]
