"""What forgetting is made of: stages, trajectories, the checkpoint to keep. Pure: the standard library and statistics."""

from emt_plugin.analysis.change import Change, mean_change, paired_change
from emt_plugin.analysis.keep import Keep, checkpoint_to_keep
from emt_plugin.analysis.mending import DECIDES, PROMISES, Decision, Mending, promise_of
from emt_plugin.analysis.steps import Loss, Outcome, Step, largest_loss, steps
from emt_plugin.analysis.trajectory import Trajectory, trajectory

__all__ = [
    "DECIDES",
    "PROMISES",
    "Change",
    "Decision",
    "Keep",
    "Loss",
    "Mending",
    "Outcome",
    "Step",
    "Trajectory",
    "checkpoint_to_keep",
    "largest_loss",
    "mean_change",
    "paired_change",
    "promise_of",
    "steps",
    "trajectory",
]
