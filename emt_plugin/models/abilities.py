"""What the transformers that is installed can do: older versions lack something."""

from __future__ import annotations

import inspect
from typing import Any


def takes_seen_images(model: Any) -> bool:
    """Whether a model can be handed what its tower made of the images, instead of their pixels."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters


def with_cache(part: Any, cache: Any) -> dict[str, Any]:
    """A cache as a model or a part of one takes it: by the name that its forward has for one, which versions change.

    One that hands it on to a language model inside without a name of its own takes it by that model's.
    """
    names = (_cache_name(type(module)) for module in part.modules())
    return {next((name for name in names if name), "past_key_values"): cache}


def _cache_name(kind: Any) -> str | None:
    taken = inspect.signature(kind.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in taken), None)


def cache_in(made: Any) -> Any:
    """The cache in what a model made, by whichever name."""
    return made["cache"] if "cache" in made else made["past_key_values"]
