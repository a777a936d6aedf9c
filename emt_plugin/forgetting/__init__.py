"""What forgetting is made of. Pure: the standard library and the gate's statistics."""

from emt_plugin.forgetting.steps import Step, largest_loss, steps

__all__ = ["Step", "largest_loss", "steps"]
