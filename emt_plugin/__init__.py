"""Gate a multimodal LLM on forgetting: does it still classify images as well as its own vision encoder?"""

from pathlib import Path as _Path

__version__ = "0.1.0"

# The benchmarks lie inside the package in a wheel and beside it in a checkout: `--pyargs emt_plugin.benchmarks` finds either.
if not (_Path(__file__).parent / "benchmarks").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))
