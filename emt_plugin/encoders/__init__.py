"""The MLLM's own vision encoder as a zero-shot classifier, and the check that it is its own."""

from emt_plugin.encoders.own_tower import TowerCheck, check_tower
from emt_plugin.encoders.zero_shot import ZeroShotEncoder

__all__ = ["TowerCheck", "ZeroShotEncoder", "check_tower"]
