"""A run beside earlier ones: what differs, what changed on the same images, and how each pair went over time."""

from emt_plugin.history.compare import compare_runs, flips
from emt_plugin.history.file import HistoryError, append, pin, read_history
from emt_plugin.history.lines import lines_of
from emt_plugin.history.since import changes_since, trends_of

__all__ = ["HistoryError", "append", "changes_since", "compare_runs", "flips", "lines_of", "pin", "read_history", "trends_of"]
