"""Continued fine-tuning, with transformers' Trainer and peft."""

from emt_plugin.finetune.run import Finetuned, finetune
from emt_plugin.finetune.settings import METHODS, FinetuneSettings

__all__ = ["METHODS", "FinetuneSettings", "Finetuned", "finetune"]
