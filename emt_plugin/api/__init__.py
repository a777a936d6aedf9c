"""What ``import emt_plugin as emt`` offers: runs to look at, and the gate without pytest. See docs/api.md."""

from emt_plugin.api.evaluating import evaluate
from emt_plugin.api.run import Run, load_run
from emt_plugin.errors import CouldNotRun, UsageError
from emt_plugin.records import RecordError

__all__ = ["CouldNotRun", "RecordError", "Run", "UsageError", "evaluate", "load_run"]
