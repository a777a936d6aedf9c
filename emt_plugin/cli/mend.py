"""``emt mend``: the largest state between a base and a checkpoint that passes outside the checkpoint's domain."""

from __future__ import annotations

import argparse
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import Catalog, CatalogError
from emt_plugin.catalog.checkpoints import one_checkpoint, readable_id
from emt_plugin.errors import CouldNotRun
from emt_plugin.gate import Tolerances, TolerancesError
from emt_plugin.gate.exit_code import INCOMPLETE, USAGE
from emt_plugin.gate.tolerances import parse_tolerance
from emt_plugin.session.environment import command, describe
from emt_plugin.settings import DEFAULT_LIMIT, DTYPES, Compute, Reporting, Settings, Storing
from emt_plugin.store import DEFAULT_FOLDER, MODES

if TYPE_CHECKING:
    from emt_plugin.finetune.mending.mend import Plan

POLICY = Path("benchmarks/tolerances.toml")
DEFAULT_ALPHAS = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
MOST_ALPHAS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    add = parser.add_argument
    add("--model", required=True, metavar="BASE", help="the base: catalog name, folder or hub id")
    add("--checkpoint", required=True, metavar="GLOB",
        help="what was tuned from it, an adapter or a whole model; of several of one run the last")  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="where the chosen state goes, new or empty [runs/RUN-CHECKPOINT-mended]")
    add("--trained-on", action="append", metavar="NAME[,NAME]",
        help="image sets in the domain, which decide nothing [what emt.json says]")  # fmt: skip
    add("--image-set", "--dataset", action="append", metavar="NAME", dest="image_set",
        help="catalog name, folder or hub id; repeatable [the base's, and those of the domain]")  # fmt: skip
    add("--alphas", default=DEFAULT_ALPHAS, metavar="A[,A]",
        help=f"the states to try, in (0, 1] and ascending, fixed beforehand [{DEFAULT_ALPHAS}]")  # fmt: skip
    add("--limit", default=str(DEFAULT_LIMIT), metavar="N",
        help=f"images of each set, of which one half chooses and the other promises [{DEFAULT_LIMIT}]")  # fmt: skip
    add("--tolerance", metavar="X", help="largest loss that passes, a fraction; stands above the file [0.05]")
    add("--tolerances", type=Path, metavar="FILE", help=f"tolerances; accepted losses do not count [{POLICY}, where it is]")
    add("--dtype", choices=DTYPES, help="of the weights in memory [float32 on the CPU, the base's own on a GPU]")
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps [a GPU where there is one]")
    add("--batch-size", metavar="N", help="images in one forward [fitted to memory]")
    add("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where the run and its report land [reports]")
    add("--store", choices=MODES, default="use", help="what use is made of what was computed before [use]")
    add("--store-dir", type=Path, default=Path(DEFAULT_FOLDER), metavar="DIR", help=f"where that is [{DEFAULT_FOLDER}]")


def run(options: argparse.Namespace) -> int:
    """Mend; 0, 7 and 1 as docs/mending.md says, 3 where it could not, 4 where something has to be written otherwise."""
    from emt_plugin.finetune.mending.mend import mend
    from emt_plugin.report.writers.terminal import along

    try:
        plan = _plan(options)
        print(
            f"mending {plan.tuned} of {plan.base.name}: {len(plan.alphas)} states, in the domain {', '.join(plan.trained_on)}"
        )
        done = mend(plan, environment=describe(Path.cwd(), command("emt", sys.argv[1:], Path.home())))
    except (CatalogError, TolerancesError) as error:
        # 1 would read as a verdict.
        print(f"emt: {error}", file=sys.stderr)
        return USAGE
    except (CouldNotRun, OSError) as error:
        print(f"emt: {error}", file=sys.stderr)
        return INCOMPLETE
    except ImportError as error:
        print(f"emt: mending needs more packages: pip install 'pytest-emt[finetune]' ({error})", file=sys.stderr)
        return INCOMPLETE
    code = done.run.exit_code
    place = [f"mended: {done.out}"] if done.out else []
    for line in [*along(done.run), "", *place, f"report: {done.folder / 'report.html'}", f"exit code: {code}"]:
        print(line)
    return code


def _plan(options: argparse.Namespace) -> Plan:
    from emt_plugin.finetune.mending.folder import claim_output
    from emt_plugin.finetune.mending.mend import Plan

    alphas = alphas_of(options.alphas)
    catalog = Catalog.load(options.catalog)
    base = catalog.model(options.model)
    checkpoint = one_checkpoint(options.checkpoint)
    folder = checkpoint.folder.resolve()
    out = options.out or Path("runs") / f"{readable_id(folder.parent.name)}-{readable_id(folder.name)}-mended"
    claim_output(out)
    named = [name.strip() for names in options.trained_on or () for name in names.split(",")]
    said = checkpoint.provenance.trained_on if checkpoint.provenance else ()
    domain = named or [name for name in said if name in catalog.image_sets]
    specs = catalog.image_sets_named([*(options.image_set or base.image_sets), *domain])
    return Plan(
        base=base,
        checkpoint=checkpoint,
        trained_on=tuple(specs[name].id for name in named) or said,
        image_sets=tuple(dict.fromkeys(specs.values())),
        alphas=alphas,
        out=out,
        settings=Settings(
            catalog=catalog,
            tolerances=_tolerances(options),
            compute=Compute(
                limit=_count(options.limit, "--limit") or DEFAULT_LIMIT,
                batch_size=_count(options.batch_size, "--batch-size"),
                dtype=options.dtype,
                device=options.device,
            ),
            store=Storing(options.store_dir, options.store),
            report=Reporting(options.reports),
            given=_given(options),
        ),
    )


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What was written, by the names that the gate's options have where it has them."""
    several = {"model": [options.model], "checkpoint": [options.checkpoint], "image_set": options.image_set}
    names = ("alphas", "trained_on", "limit", "tolerance", "dtype", "device", "batch_size")
    catalog = str(options.catalog) if options.catalog else None
    found = {**several, **{name: getattr(options, name) for name in names}, "catalog": catalog}
    return {name: value for name, value in found.items() if value is not None}


def alphas_of(text: str) -> tuple[float, ...]:
    """The states to try, as a user writes them.

    Raises:
        CatalogError: it is no list of ascending numbers in (0, 1].
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    ascending = all(one < other for one, other in pairwise(found))
    if not found or not ascending or not all(math.isfinite(alpha) and 0 < alpha <= 1 for alpha in found):
        raise CatalogError(f"--alphas '{text}' is no list of ascending numbers in (0, 1]; write such as 0.25,0.5,0.75,1")
    if len({f"{alpha:.3f}" for alpha in found}) < len(found) or len(found) > MOST_ALPHAS or round(found[0], 3) == 0:
        raise CatalogError(f"--alphas '{text}' are closer than a thousandth, or more than {MOST_ALPHAS}; write fewer")
    return found


def _tolerances(options: argparse.Namespace) -> Tolerances:
    path = options.tolerances or (POLICY if POLICY.exists() else None)
    return Tolerances.load(path, parse_tolerance(options.tolerance) if options.tolerance else None)


def _count(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise CatalogError(f"{name} {text} is not a number of images; write a whole number of at least 1")
    return int(text)
