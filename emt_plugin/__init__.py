"""Gate a multimodal LLM on forgetting: does it still classify images as well as its own vision encoder?"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_plugin.api import CouldNotRun, RecordError, Run, UsageError, evaluate, load_run

__version__ = "0.1.0"
__all__ = ["CouldNotRun", "RecordError", "Run", "UsageError", "evaluate", "load_run"]

# The benchmarks lie inside the package in a wheel and beside it in a checkout: `--pyargs emt_plugin.benchmarks` finds either.
if not (_Path(__file__).parent / "benchmarks").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """What ``__all__`` lists, imported when it is first asked for: the package is imported by every pytest run."""
        if name in __all__:
            return getattr(_import_module("emt_plugin.api"), name)
        raise AttributeError(f"module 'emt_plugin' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
