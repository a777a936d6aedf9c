"""Every option of the gate, as data: what pytest registers, which ini keys there are, and docs/options.md come from here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

# Name and title of each part of ``pytest --help``.
WHAT = ("emt-what", "forgetting: what is gated, and against what")
HOW = ("emt-how", "forgetting: how it is measured and judged")
RUN = ("emt-run", "forgetting: how models are run")
STORE = ("emt-store", "forgetting: what is kept")
SHOW = ("emt-show", "forgetting: what is shown")
GROUPS = (WHAT, HOW, RUN, STORE, SHOW)
DEFAULT = re.compile(r" \[([^\[\]]+)\]$")


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        flag: as it is typed.
        help: lower case, no full stop, the default in brackets at the end.
        group: the part of the help that it is in.
        metavar: what its value is called; None for a switch.
        repeatable: it may be given several times.
        ini: a project may set it once, by an ini key.
    """

    flag: str
    help: str
    group: tuple[str, str]
    metavar: str | None = None
    repeatable: bool = False
    ini: bool = False

    @property
    def dest(self) -> str:
        """Its name in ``config.option``, and as an ini key."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def default(self) -> str:
        """What holds without it, in words; empty where nothing is to be said."""
        found = DEFAULT.search(self.help)
        return found[1] if found else ""

    @property
    def about(self) -> str:
        """The help without the default."""
        return DEFAULT.sub("", self.help)

    @property
    def ini_type(self) -> Literal["args", "bool", "string"]:
        """Of what type its ini key is."""
        return "args" if self.repeatable else "bool" if self.metavar is None else "string"

    @property
    def argument(self) -> dict[str, Any]:
        """What argparse is told of it."""
        if self.metavar is None:
            return {"action": "store_true", "help": self.help}
        # The destination is written out because a suite's conftest may share it with an alias.
        return {"dest": self.dest, "metavar": self.metavar, "help": self.help} | (
            {"action": "append"} if self.repeatable else {}
        )


OPTIONS = (
    Option(
        "--emt-model",
        "model: catalog name, folder, hub id, or endpoint:NAME; repeatable [llava-mini]",
        WHAT,
        "NAME",
        repeatable=True,
        ini=True,
    ),
    Option(
        "--emt-image-set",
        "image set: catalog name, parquet file, folder or hub id; repeatable [the model's own list]",
        WHAT,
        "NAME",
        repeatable=True,
        ini=True,
    ),
    Option(
        "--emt-encoder",
        "the models' vision encoder: folder or hub id [the catalog's]",
        WHAT,
        "NAME",
        ini=True,
    ),
    Option(
        "--emt-reference",
        "gate against this model on the same images, or against a linear probe on the vision features with `probe` "
        "[the model's own encoder; `probe` where the catalog says that its tower has none]",
        WHAT,
        "MODEL",
        ini=True,
    ),
    Option(
        "--emt-checkpoint",
        "gate each of these checkpoints of one model against that model, in order of training; repeatable",
        WHAT,
        "GLOB",
        repeatable=True,
    ),
    Option(
        "--emt-trained-on",
        "image sets that the checkpoints were trained on [what they say]",
        WHAT,
        "NAME[,NAME]",
        repeatable=True,
    ),
    Option(
        "--emt-revision",
        "hub revision of the models [the default branch]",
        WHAT,
        "REV",
    ),
    Option(
        "--emt-catalog",
        "TOML file with more models and image sets, by their names [those of the package]",
        WHAT,
        "FILE",
        ini=True,
    ),
    Option(
        "--emt-image",
        "only the image whose hash begins like this, with its answer and scores; repeatable [the first --emt-limit]",
        WHAT,
        "HASH",
        repeatable=True,
    ),
    Option(
        "--emt-shard",
        "the K-th of N parts of the pairs; `emt merge` joins the parts [all pairs]",
        WHAT,
        "K/N",
    ),
    Option(
        "--emt-shard-by",
        "part the pairs, or with `images` the images of every pair [pairs]",
        WHAT,
        "WHAT",
    ),
    Option(
        "--emt-scorer",
        "scorers: answer, likelihood, text-embedding, judge or a plugin's; the first gates, the others are shown [answer]",
        HOW,
        "NAME[,NAME]",
        repeatable=True,
        ini=True,
    ),
    Option(
        "--emt-label-score",
        "likelihood of a label: sum or mean over its tokens [sum]",
        HOW,
        "RULE",
        ini=True,
    ),
    Option(
        "--emt-calibrate",
        "likelihood of a label less its likelihood under a mean-grey image",
        HOW,
        ini=True,
    ),
    Option(
        "--emt-probe-images",
        "training images of each class that linear probes are fitted on, beside likelihood; 0 for no probe [50]",
        HOW,
        "N",
        ini=True,
    ),
    Option(
        "--emt-limit",
        "images of each set, the first in the fixed order [1000]",
        HOW,
        "N",
        ini=True,
    ),
    Option(
        "--emt-half",
        "one half of them only; `emt mend` chooses by half 1 and promises on half 2 [both]",
        HOW,
        "1|2",
    ),
    Option(
        "--emt-early-stop",
        "stop at the first image that settles the verdict, by a test that holds whenever one stops [all images]",
        HOW,
        ini=True,
    ),
    Option(
        "--emt-repeat",
        "measure every image N times, never from the store, and report what flips [1]",
        HOW,
        "N",
    ),
    Option(
        "--emt-tolerance",
        "largest loss that passes, a fraction; sets accepted losses aside [0.05]",
        HOW,
        "X",
        ini=True,
    ),
    Option(
        "--emt-tolerances",
        "tolerances and accepted losses [benchmarks/tolerances.toml]",
        HOW,
        "FILE",
        ini=True,
    ),
    Option(
        "--emt-update-tolerances",
        "write this run's losses as accepted losses",
        HOW,
    ),
    Option(
        "--emt-batch-size",
        "images in one forward at most [as many as fit]",
        RUN,
        "N",
        ini=True,
    ),
    Option(
        "--emt-dtype",
        "float32, bfloat16 or float16 [float32 on the CPU, the checkpoint's on a GPU]",
        RUN,
        "DTYPE",
        ini=True,
    ),
    Option(
        "--emt-device",
        "cpu, cuda, cuda:1 or mps [the GPU that is visible, else cpu]",
        RUN,
        "DEVICE",
        ini=True,
    ),
    Option(
        "--emt-attention",
        "implementation of attention: sdpa, eager, ... [the model's own choice]",
        RUN,
        "NAME",
        ini=True,
    ),
    Option(
        "--emt-generation",
        "greedy answers by neutral settings, or with `checkpoint` by the penalties and stops that it was saved with [own]",
        RUN,
        "HOW",
        ini=True,
    ),
    Option(
        "--emt-memory",
        "bytes that models on one device may take, such as 20GB [all that it has]",
        RUN,
        "BYTES",
        ini=True,
    ),
    Option(
        "--emt-max-cost",
        "ask no more of models behind endpoints than this costs [any amount]",
        RUN,
        "USD",
        ini=True,
    ),
    Option(
        "--emt-engine",
        "where models run: process, or ray for actors of a Ray cluster [process]",
        RUN,
        "NAME",
        ini=True,
    ),
    Option(
        "--emt-actors",
        "how many actors of --emt-engine ray there are [one for each GPU; one a node where there is none]",
        RUN,
        "N",
        ini=True,
    ),
    Option(
        "--emt-actor-gpus",
        "share of a GPU that an actor takes, such as 0.5 [1 where models run on a GPU]",
        RUN,
        "X",
        ini=True,
    ),
    Option(
        "--emt-actor-cpus",
        "cores that an actor takes [1]",
        RUN,
        "X",
        ini=True,
    ),
    Option(
        "--emt-actor-wait",
        "how long to wait where the Ray cluster has room for no actor [600]",
        RUN,
        "SECONDS",
        ini=True,
    ),
    Option(
        "--emt-throughput",
        "time the suite instead of gating; needs pytest-benchmark, and no -n",
        RUN,
    ),
    Option(
        "--emt-store",
        "use what was computed before, compute it anew with `refresh`, or keep nothing with `off` [use]",
        STORE,
        "MODE",
        ini=True,
    ),
    Option(
        "--emt-store-dir",
        "where computed results are kept [.emt_store]",
        STORE,
        "DIR",
        ini=True,
    ),
    Option(
        "--emt-store-size",
        "what stored vision features may take, the longest unused go first [20GB]",
        STORE,
        "BYTES",
        ini=True,
    ),
    Option(
        "--emt-report",
        "report.html as one file with `single`, or with `dir` assets beside it [single]",
        SHOW,
        "MODE",
        ini=True,
    ),
    Option(
        "--emt-reports",
        "folder in which each run gets its own folder [reports]",
        SHOW,
        "DIR",
        ini=True,
    ),
    Option(
        "--emt-compare",
        "show what changed since this earlier run, image by image: its folder, its id, the beginning of one, or latest",
        SHOW,
        "RUN",
    ),
    Option(
        "--emt-history",
        "append a line for each pair to this file, and show the trend since last night and the pinned release",
        SHOW,
        "FILE",
        ini=True,
    ),
)
BY_DEST = {option.dest: option for option in OPTIONS}
