"""A pair from names to its record: loads what has to be loaded, observes, scores, compares."""

from emt_plugin.evaluation.evaluator import Evaluator
from emt_plugin.evaluation.models import Model

__all__ = ["Evaluator", "Model"]
