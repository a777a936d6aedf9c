"""What forgetting is made of. Pure: the standard library and the gate's statistics."""

from emt_plugin.forgetting.steps import Loss, Outcome, Step, largest_loss, steps

__all__ = ["Loss", "Outcome", "Step", "largest_loss", "steps"]
