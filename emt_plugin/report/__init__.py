"""A run record becomes report.html, summary.md and the terminal's table. Drawn from the record and nothing else."""

from emt_plugin.report.writers.files import write_all
from emt_plugin.report.writers.html import render
from emt_plugin.report.writers.summary import write_summary

__all__ = ["render", "write_all", "write_summary"]
