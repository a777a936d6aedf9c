"""What runs a multimodal LLM, and what it saw of each image."""

from emt_plugin.models.backend import Backend, BackendFacts, Inside, Request
from emt_plugin.models.checkpoint import Checkpoint

__all__ = ["Backend", "BackendFacts", "Checkpoint", "Inside", "Request"]
