"""What runs a multimodal LLM, and what it saw of each image."""

from emt_plugin.mllms.backend import Backend
from emt_plugin.mllms.checkpoint import Checkpoint

__all__ = ["Backend", "Checkpoint"]
