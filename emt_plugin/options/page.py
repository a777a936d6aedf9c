"""docs/options.md: every option of the gate with its ini key and its default."""

from __future__ import annotations

from collections.abc import Iterator

from emt_plugin.options.listed import GROUPS, OPTIONS, Option

HEAD = """# Options

Written by `emt options --write docs/options.md`; `pytest --help` has the same under *forgetting*.

An option is for one run. What a project sets once goes into its pytest settings under the ini key, and is what holds where the
option is not given: parsed alike, with errors that name the key. A path there is meant from the project's root. `-o KEY=VALUE`
sets a key for one run, so `-o emt_early_stop=false` takes a switch back.

```toml
[tool.pytest]                          # pyproject.toml; in pytest.ini the same without quotes and brackets
emt = true                             # gate in every run of this project, without any option
emt_model = ["./runs/my-llava"]
emt_image_set = ["cifar10", "mnist"]
emt_limit = "2000"                     # all but lists and switches are strings
emt_tolerance = "0.03"
emt_calibrate = false
```

In a checkout of this repository `--model`, `--dataset` and `--checkpoint` are short for `--emt-model`, `--emt-image-set` and
`--emt-checkpoint`. Checkpoints are compared with their base, whatever `emt_reference` says, and what has to be measured whole
is measured whole, whatever `emt_early_stop` says.
"""


def options_page() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_tables()])


def _tables() -> Iterator[str]:
    for group in GROUPS:
        yield f"## {group[1].partition(': ')[2].capitalize()}\n"
        yield "| option | what it does | without it | ini key |\n|---|---|---|---|"
        yield from (_row(option) for option in OPTIONS if option.group == group)
        yield ""


def _row(option: Option) -> str:
    typed = f"`{option.flag}{f' {option.metavar}' if option.metavar else ''}`"
    key = f"`{option.dest}`" if option.ini else ""
    return f"| {typed} | {option.about.replace('|', '/')} | {option.default} | {key} |"
