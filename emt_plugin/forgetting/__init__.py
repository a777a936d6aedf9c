"""What forgetting is made of. Pure: the standard library and the gate's statistics."""

from emt_plugin.forgetting.change import Change, mean_change, paired_change
from emt_plugin.forgetting.keep import Keep, checkpoint_to_keep
from emt_plugin.forgetting.steps import Loss, Outcome, Step, largest_loss, steps
from emt_plugin.forgetting.trajectory import Trajectory, trajectory

__all__ = [
    "Change",
    "Keep",
    "Loss",
    "Outcome",
    "Step",
    "Trajectory",
    "checkpoint_to_keep",
    "largest_loss",
    "mean_change",
    "paired_change",
    "steps",
    "trajectory",
]
