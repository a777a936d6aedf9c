"""Continued fine-tuning, with transformers' Trainer and peft, and what watches it for forgetting."""

from typing import TYPE_CHECKING, Any

from emt_plugin.finetune.run import Finetuned, finetune
from emt_plugin.finetune.settings import METHODS, FinetuneSettings, Watch

if TYPE_CHECKING:
    from emt_plugin.finetune.callback import ForgettingCallback

__all__ = ["METHODS", "FinetuneSettings", "Finetuned", "ForgettingCallback", "Watch", "finetune"]


def __getattr__(name: str) -> Any:
    # The callback is a class of transformers', which takes seconds to import.
    if name == "ForgettingCallback":
        from emt_plugin.finetune.callback import ForgettingCallback

        return ForgettingCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
