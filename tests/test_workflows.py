"""The CI files: what they promise, and their scripts run as GitHub and GitLab run them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
GATE, NIGHTLY = (REPOSITORY / ".github" / "workflows" / name for name in ("release-gate.yml", "nightly.yml"))
GITLAB = REPOSITORY / ".gitlab-ci.yml"
DOCUMENT = REPOSITORY / "docs" / "ci.md"
INSTALL = [
    "pip install \"$(grep '^torch==' constraints.txt)\"",
    "pip install --constraint constraints.txt --editable '.[workers]'",
]
# Few images and few sets: what is asked here is what becomes of the exit code, not what it is.
QUICK = "-p no:cacheprovider --emt-limit 40 --emt-image-set mnist-mini --emt-image-set digits-mini"
# Model, tolerance, and the exit code by the table in README.md.
CODES = [("llava-mini", "0.5", 0), ("llava-mini-forgot", "0.01", 1), ("llava-mini", "0.05", 7), ("llava-mimi", "0.5", 4)]


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Workflow:
    """A GitHub workflow with one job."""

    path: Path

    @property
    def content(self) -> dict[str, Any]:
        return loaded(self.path)

    @property
    def job(self) -> dict[str, Any]:
        (job,) = self.content["jobs"].values()
        return job

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.job["steps"] if step.get("id") == name)

    def using(self, action: str) -> list[dict[str, Any]]:
        return [step for step in self.job["steps"] if step.get("uses", "").startswith(f"{action}@")]

    @property
    def scripts(self) -> list[str]:
        return [step["run"] for step in self.job["steps"] if "run" in step]


@dataclass(frozen=True)
class Job:
    """A job of the GitLab file, with what it extends."""

    name: str

    @property
    def content(self) -> dict[str, Any]:
        every = loaded(GITLAB)
        own, base = every[self.name], every[every[self.name]["extends"]]
        return {**base, **own, "artifacts": {**base["artifacts"], **own.get("artifacts", {})}}

    @property
    def variables(self) -> dict[str, str]:
        given = loaded(GITLAB)["variables"]
        return {name: value["value"] if isinstance(value, dict) else value for name, value in given.items()}

    @property
    def scripts(self) -> list[str]:
        return [line for part in ("before_script", "script", "after_script") for line in self.content[part]]


ALL = [Workflow(GATE), Workflow(NIGHTLY), Job("release-gate"), Job("nightly")]
NAMES = ["github-gate", "github-nightly", "gitlab-gate", "gitlab-nightly"]
every_job = pytest.mark.parametrize("job", ALL, ids=NAMES)
every_workflow = pytest.mark.parametrize("workflow", ALL[:2], ids=NAMES[:2])


@dataclass(frozen=True)
class Checkout:
    """A fresh checkout on a runner, with the tools that are on its PATH.

    Attributes:
        folder: the checkout.
        store: results that all checkouts of these tests share, so that most of them replay.
        variables: the runner's environment.
    """

    folder: Path
    store: Path
    variables: dict[str, str] = field(default_factory=dict)

    def bash(self, script: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
        file = self.folder.parent / "script.sh"
        file.write_text(script, encoding="utf-8")
        outer = ("PYTEST_", "GITHUB_", "CI_", "EMT_", "COV_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
        path = os.pathsep.join([str(self.folder.parent / "bin"), str(Path(sys.executable).parent), kept["PATH"]])
        # Of this checkout, whatever is installed.
        ours = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "PATH": path}
        return subprocess.run(
            ["bash", *flags, str(file)],
            cwd=self.folder, env={**kept, **ours, **self.variables, **variables},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def step(self, step: Mapping[str, Any], known: Mapping[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
        """A step of GitHub's: bash ends at the first failure, and expressions stand in its environment alone."""
        assert "${{" not in step["run"]
        given = {name: filled(text, known) for name, text in step.get("env", {}).items()}
        return self.bash(step["run"], "-e", **given, **variables)

    def job(self, job: Job, **variables: str) -> subprocess.CompletedProcess[str]:
        """A job of GitLab's, installed already; what comes after has a shell of its own and no say in the exit code."""
        every = {**job.variables, "CI_PROJECT_DIR": str(self.folder), **variables}
        done = self.bash("\n".join(["set -eo pipefail", *job.content["script"]]), **every)
        self.bash("\n".join(job.content["after_script"]), **every)
        return done

    def quick(self, tolerance: str = "0.5") -> str:
        return f"{QUICK} --emt-tolerance {tolerance} --emt-store-dir {shlex.quote(str(self.store))}"

    @property
    def record(self) -> dict[str, Any]:
        (path,) = self.folder.glob("build/reports/*/run.json")
        return json.loads(path.read_text(encoding="utf-8"))

    @property
    def history(self) -> list[str]:
        return (self.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()

    @property
    def summary(self) -> str:
        path = Path(self.variables["GITHUB_STEP_SUMMARY"])
        return path.read_text(encoding="utf-8") if path.exists() else ""


def filled(text: str, known: Mapping[str, str]) -> str:
    """A value of the file with its expressions evaluated; one that is not known here is an error."""
    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda found: known[found[1]], text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def fresh(tmp_path: Path, store: Path) -> Callable[[], Checkout]:
    """Makes a checkout, each in a place of its own."""
    count: Iterator[int] = iter(range(9))

    def make() -> Checkout:
        place = tmp_path / f"runner-{next(count)}"
        folder = place / "checkout"
        for made in (folder, place / "bin", place / "temp"):
            made.mkdir(parents=True)
        for name in ("benchmarks", "fixtures", "conftest.py", "pyproject.toml"):
            (folder / name).symlink_to(REPOSITORY / name)
        return Checkout(folder, store, {"GITHUB_STEP_SUMMARY": str(place / "summary.md"), "RUNNER_TEMP": str(place / "temp")})

    return make


@pytest.fixture
def checkout(fresh: Callable[[], Checkout]) -> Checkout:
    return fresh()


def with_model(model: str) -> dict[str, str]:
    return {"inputs.model || 'llava-mini'": model}


@every_job
def test_the_gate_is_pytest_and_nothing_hides_its_exit_code(job: Workflow | Job) -> None:
    last = job.step("gate")["run"] if isinstance(job, Workflow) else job.content["script"][-1]
    assert last.startswith("pytest benchmarks -n 2 --model ")
    assert "\n" not in last
    for script in job.scripts:
        assert not re.search(r"\bmake\b|\|\| *(true|:)|\|\s*tee", script)
    assert "continue-on-error" not in str(job.content)


@every_workflow
def test_github_fails_for_every_code_but_0(workflow: Workflow) -> None:
    gate = workflow.step("gate")
    assert "if" not in gate
    assert "shell" not in gate


def test_gitlab_forgives_7_at_night_alone() -> None:
    assert Job("release-gate").content["allow_failure"] is False
    assert Job("nightly").content["allow_failure"] == {"exit_codes": [7]}


@every_job
def test_torch_is_installed_first_as_the_makefile_does(job: Workflow | Job) -> None:
    lines = [line.strip() for script in job.scripts for line in script.splitlines() if line.strip().startswith("pip ")]
    assert lines == INSTALL
    assert "\"$$(grep '^torch==' constraints.txt)\"" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")


@every_workflow
def test_github_may_read_and_no_more(workflow: Workflow) -> None:
    history = {"actions": "read"} if workflow.path == NIGHTLY else {}
    assert workflow.content["permissions"] == {"contents": "read", **history}
    assert "permissions" not in workflow.job
    (checkout,) = workflow.using("actions/checkout")
    assert checkout["with"]["persist-credentials"] is False
    assert "secrets." not in workflow.path.read_text(encoding="utf-8")


@every_workflow
def test_github_uploads_whatever_happened(workflow: Workflow) -> None:
    uploads = workflow.using("actions/upload-artifact")
    assert len(uploads) >= 2
    for step in (*uploads, *workflow.using("actions/cache/save")):
        assert step["if"] == "always()"
    (single,) = [step["with"] for step in uploads if step["with"].get("archive") is False]
    assert single["path"].endswith("/report.html")
    names = [step["with"]["name"] for step in uploads]
    assert len(set(names)) == len(names)
    assert ("emt-history" in names) == (workflow.path == NIGHTLY)


@pytest.mark.parametrize("job", ALL[2:], ids=NAMES[2:])
def test_gitlab_keeps_whatever_happened(job: Job) -> None:
    artifacts = job.content["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["expose_as"]
    # GitLab refuses a file whose exposed paths have a star, and shows none that has a variable.
    assert not any("*" in path or "$" in path for path in artifacts["paths"])
    junit = artifacts["reports"]["junit"]
    assert f"--junitxml {junit}" in job.content["script"][-1]


def test_gitlab_keeps_the_history_twice() -> None:
    nightly = Job("nightly").content
    assert "history.jsonl" in nightly["artifacts"]["paths"]
    (cache,) = [cache for cache in nightly["cache"] if cache["paths"] == ["history.jsonl"]]
    assert cache["when"] == "always"
    assert nightly["resource_group"]


def test_nights_do_not_overlap_and_start_by_clock_or_hand() -> None:
    content = loaded(NIGHTLY)
    # YAML 1.1 reads the key `on` as true.
    assert set(content[True]) == {"schedule", "workflow_dispatch"}
    assert "cancel-in-progress" not in content["concurrency"]
    assert set(loaded(GATE)[True]) == {"pull_request", "workflow_dispatch"}


@pytest.mark.thorough
@pytest.mark.parametrize(("model", "tolerance", "code"), CODES)
def test_the_github_gate(checkout: Checkout, model: str, tolerance: str, code: int) -> None:
    workflow = Workflow(GATE)
    done = checkout.step(workflow.step("gate"), with_model(model), PYTEST_ADDOPTS=checkout.quick(tolerance))
    assert done.returncode == code, done.stdout + done.stderr
    assert_uploads(checkout, workflow, found=code != 4)
    if code != 4:
        assert checkout.record["exit_code"] == code


@pytest.mark.thorough
def test_the_summary_is_on_the_page_of_the_github_run(checkout: Checkout) -> None:
    done = checkout.step(Workflow(GATE).step("gate"), with_model("llava-mini"), PYTEST_ADDOPTS=checkout.quick())
    (summary,) = checkout.folder.glob("build/reports/*/summary.md")
    assert checkout.summary.strip() == summary.read_text(encoding="utf-8").strip(), done.stdout + done.stderr


def assert_uploads(checkout: Checkout, workflow: Workflow, *, found: bool) -> None:
    """What the steps after the gate would upload is there, the single file once."""
    for step in workflow.using("actions/upload-artifact"):
        paths = list(checkout.folder.glob(step["with"]["path"]))
        if step["with"].get("archive") is False:
            assert len(paths) == found
            assert all(path.read_text(encoding="utf-8").startswith("<!doctype html>") for path in paths)
        elif found:
            assert len(paths) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(("model", "tolerance", "code"), CODES)
def test_the_gitlab_gate(checkout: Checkout, model: str, tolerance: str, code: int) -> None:
    job = Job("release-gate")
    done = checkout.job(job, EMT_MODEL=model, PYTEST_ADDOPTS=checkout.quick(tolerance))
    assert done.returncode == code, done.stdout + done.stderr
    kept = [job.content["artifacts"]["reports"]["junit"], *job.content["artifacts"]["paths"]]
    assert {(checkout.folder / path).exists() for path in kept} <= ({True} if code != 4 else {True, False})
    if code != 4:
        assert checkout.record["exit_code"] == code


def night(checkout: Checkout, flow: str, model: str, tolerance: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One night as GitHub or GitLab would run it, from where the history is there."""
    every = {"PYTEST_ADDOPTS": checkout.quick(tolerance), **variables}
    if flow == "gitlab":
        return checkout.job(Job("nightly"), EMT_MODEL=model, **every)
    return checkout.step(Workflow(NIGHTLY).step("gate"), with_model(model), **every)


@pytest.mark.thorough
@pytest.mark.parametrize("flow", ["github", "gitlab"])
def test_two_nights_and_a_release(fresh: Callable[[], Checkout], flow: str) -> None:
    first, second = fresh(), fresh()
    begun = night(first, flow, "llava-mini", "0.5", EMT_NEW_HISTORY="yes")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert len(first.history) == 2
    release = first.record["run_id"]
    assert all(release in json.dumps(json.loads(line)) for line in first.history)
    assert [pair["repeat"]["passes"] for pair in first.record["pairs"]] == [2, 2]
    assert [pair["repeat"]["flips"] for pair in first.record["pairs"]] == [0, 0]

    (second.folder / "history.jsonl").write_text((first.folder / "history.jsonl").read_text())
    pinned = {"EMT_PIN": release, "EMT_RELEASE": "v1.2"}
    if flow == "github":
        done = second.step(Workflow(NIGHTLY).step("pin"), {"inputs.pin": release, "inputs.release": "v1.2"})
        assert done.returncode == 0, done.stdout + done.stderr
        pinned = {}
    # A night that fails its gate is a point of the trend like any other.
    failed = night(second, flow, "llava-mini", "0.05", **pinned)
    assert failed.returncode == 7, failed.stdout + failed.stderr
    for run in (release, second.record["run_id"]):
        assert sum(run in line for line in second.history) >= 2
    assert {changes["run_id"] for changes in second.record["changes"]} == {release}
    assert any("v1.2" in changes["name"] for changes in second.record["changes"])
    assert all(pair["replay"]["replayed"] == 0 for pair in second.record["pairs"])
    if flow == "github":
        assert_uploads(second, Workflow(NIGHTLY), found=True)
        assert second.summary


def test_a_release_that_is_not_in_the_history_is_refused(checkout: Checkout) -> None:
    (checkout.folder / "history.jsonl").write_text("")
    done = checkout.step(Workflow(NIGHTLY).step("pin"), {"inputs.pin": "20261124-101500-1f2e", "inputs.release": "v1.2"})
    assert done.returncode == 1
    assert "20261124-101500-1f2e" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gitlab_night_without_its_history_ends_before_it_measures(checkout: Checkout) -> None:
    done = checkout.job(Job("nightly"), PYTEST_ADDOPTS=checkout.quick())
    assert done.returncode == 1
    assert "EMT_NEW_HISTORY=yes" in done.stdout
    assert not (checkout.folder / "history.jsonl").exists()
    assert not (checkout.folder / "build").exists()


# GitHub's own command, as far as the workflow has business with it; anything else is an error.
GH = """\
import argparse, json, os, pathlib, re, sys

world = json.loads(pathlib.Path(os.environ["WORLD"]).read_text())
words = sys.argv[1:]

def broken(what):
    if world["broken"] == what:
        sys.exit("HTTP 502: Server Error")

if words[:2] == ["run", "list"]:
    parser = argparse.ArgumentParser()
    for flag in ("workflow", "branch", "event", "status", "json", "jq"):
        parser.add_argument("--" + flag, required=True)
    parser.add_argument("--limit", type=int, default=20)
    asked = parser.parse_args(words[2:])
    broken(f"list {asked.event}")
    assert (asked.json, asked.jq) == ("databaseId", ".[].databaseId")
    same = ("workflow", "branch", "event", "status")
    found = [run for run in world["runs"] if all(run[name] == getattr(asked, name) for name in same)]
    for run in sorted(found, key=lambda run: -run["id"])[:asked.limit]:
        print(run["id"])
elif words[:1] == ["api"]:
    broken("api")
    run, name = re.fullmatch(r"repos/acme/models/actions/runs/(\\d+)/artifacts\\?name=([\\w-]+)", words[1]).groups()
    assert words[2:] == ["--jq", ".artifacts[].expired"]
    for artifact in next(found for found in world["runs"] if found["id"] == int(run))["artifacts"]:
        if artifact["name"] == name:
            print("true" if artifact["expired"] else "false")
elif words[:2] == ["run", "download"]:
    run, folder = words[2], pathlib.Path(words[6])
    assert words[3:6] == ["--name", "emt-history", "--dir"]
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text(f"half of {run}" if world["broken"] == "download" else f"history of {run}\\n")
    broken("download")
else:
    sys.exit(f"unknown command {words}")
"""
THIS_RUN = 900


def run_of(number: int, *artifacts: str, event: str = "schedule", branch: str = "main", status: str = "completed") -> Any:
    """A run of the workflow; an artifact whose name ends in `!` has expired."""
    kept = [{"name": name.rstrip("!"), "expired": name.endswith("!")} for name in artifacts]
    return {"id": number, "workflow": "nightly", "event": event, "branch": branch, "status": status, "artifacts": kept}


def take_up(
    checkout: Checkout, *runs: Any, broken: str | None = None, this: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The step that takes up the history, on a GitHub that had these runs."""
    place = checkout.folder.parent
    gh = place / "bin" / "gh"
    gh.write_text(f"#!{sys.executable}\n{GH}")
    gh.chmod(0o755)
    world = place / "world.json"
    every = [*runs, run_of(THIS_RUN, *this, status="in_progress")]
    world.write_text(json.dumps({"runs": every, "broken": broken}))
    return checkout.step(
        Workflow(NIGHTLY).step("history"),
        {"github.token": "token", "github.repository": "acme/models"},
        WORLD=str(world), GITHUB_WORKFLOW="nightly", GITHUB_REF_NAME="main", GITHUB_RUN_ID=str(THIS_RUN),
    )  # fmt: skip


REPORTS = ("run", "report.html")
WHOLE = ("emt-history", *REPORTS)
ABSENT = {
    "the first night ever": (),
    "no night came so far": (run_of(1), run_of(2, *REPORTS)),
    "another branch's": (run_of(1, *WHOLE, branch="try"),),
    # Its file is the pull request's own, and may upload anything under any name.
    "a pull request's from a branch of that name": (run_of(1, *WHOLE, event="pull_request"),),
}
THERE = {
    "last night's": (8, [run_of(7, *WHOLE), run_of(8, *WHOLE)]),
    "a night without it is passed over": (7, [run_of(7, *WHOLE), run_of(8), run_of(9, *REPORTS)]),
    "one started by hand": (8, [run_of(7, *WHOLE), run_of(8, *WHOLE, event="workflow_dispatch")]),
    "older by hand": (9, [run_of(8, *WHOLE, event="workflow_dispatch"), run_of(9, *WHOLE)]),
    "numbers, not words": (10, [run_of(9, *WHOLE), run_of(10, *WHOLE)]),
    "older ones may have expired": (8, [run_of(7, "emt-history!"), run_of(8, *WHOLE)]),
}


@pytest.mark.parametrize("runs", ABSENT.values(), ids=ABSENT)
def test_a_night_without_an_earlier_history_begins_one(checkout: Checkout, runs: tuple[Any, ...]) -> None:
    done = take_up(checkout, *runs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "begins it" in done.stdout
    assert not (checkout.folder / "history.jsonl").exists()


@pytest.mark.parametrize(("run", "runs"), THERE.values(), ids=THERE)
def test_a_night_goes_on_from_the_last_that_has_one(checkout: Checkout, run: int, runs: list[Any]) -> None:
    done = take_up(checkout, *runs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.history == [f"history of {run}"]


def test_a_second_attempt_goes_on_from_the_first(checkout: Checkout) -> None:
    take_up(checkout, run_of(8, *WHOLE), this=WHOLE)
    assert checkout.history == [f"history of {THIS_RUN}"]


@pytest.mark.parametrize("broken", ["list schedule", "list workflow_dispatch", "api", "download"])
def test_an_error_of_github_ends_the_night_before_it_measures(checkout: Checkout, broken: str) -> None:
    done = take_up(checkout, run_of(8, *WHOLE), broken=broken)
    assert done.returncode != 0
    assert "::error::The history cannot be fetched, so nothing is measured." in done.stdout
    assert "HTTP 502" in done.stderr
    # Else the step that hands the history on, which always runs, would hand on nothing or half of it.
    assert not (checkout.folder / "history.jsonl").exists()
    (upload,) = [
        step["with"] for step in Workflow(NIGHTLY).using("actions/upload-artifact") if "history" in step["with"]["path"]
    ]
    assert upload["if-no-files-found"] == "ignore"


def test_a_history_that_has_expired_is_not_begun_anew_unasked(checkout: Checkout) -> None:
    done = take_up(checkout, run_of(7, "emt-history!"), run_of(8, *REPORTS))
    assert done.returncode == 1
    assert "::error::The history in run 7 has expired." in done.stdout
    step = Workflow(NIGHTLY).step("history")
    assert step["if"] == "${{ !inputs.new-history }}"
    assert loaded(NIGHTLY)[True]["workflow_dispatch"]["inputs"]["new-history"]["default"] is False


def test_the_history_is_there_before_anything_measures() -> None:
    steps = [step.get("id") for step in Workflow(NIGHTLY).job["steps"]]
    assert steps.index("history") < steps.index("pin") < steps.index("gate")
    assert "if" not in Workflow(NIGHTLY).step("gate")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_option_and_command_that_is_written_there_exists(pytestconfig: pytest.Config) -> None:
    known = {f"--{name.replace('_', '-')}" for name in vars(pytestconfig.option) if name.startswith("emt_")}
    for path in (GATE, NIGHTLY, GITLAB, DOCUMENT):
        assert set(re.findall(r"--emt-[a-z]+(?:-[a-z]+)*", path.read_text(encoding="utf-8"))) <= known
    for command in ("history", "merge"):
        help_text = [sys.executable, "-m", "emt_plugin.cli", command, "--help"]
        assert subprocess.run(help_text, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0


def test_what_the_document_says_to_copy_gates_as_it_says() -> None:
    own, jobs = (yaml.safe_load(block) for block in blocks("yaml"))
    assert own[-1]["run"].startswith("pytest --pyargs emt_plugin.benchmarks ")
    assert jobs["jobs"]["release-gate"]["if"] == "always()"
    assert all(step["if"] == "always()" for job in jobs["jobs"].values() for step in job["steps"] if "upload" in str(step))


@pytest.fixture
def parts(fresh: Callable[[], Checkout]) -> tuple[Checkout, list[str]]:
    """The document's parts, measured, and brought together as its last job finds them; with the command that joins them."""
    jobs = yaml.safe_load(blocks("yaml")[1])["jobs"]
    together = fresh()
    measure = next(step["run"] for step in jobs["part"]["steps"] if "run" in step)
    for part in jobs["part"]["strategy"]["matrix"]["part"]:
        checkout = fresh()
        script = filled(measure, {"matrix.part": str(part)}).replace("--model llava ", "--model llava-mini ")
        done = checkout.bash(script, "-e", PYTEST_ADDOPTS=checkout.quick())
        assert done.returncode == 0, done.stdout + done.stderr
        (checkout.folder / "build" / "reports").rename(made(together.folder / "parts") / f"part-{part}")
    return together, [step["run"] for step in jobs["release-gate"]["steps"] if "run" in step]


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_the_parts_of_the_document_make_one_run(parts: tuple[Checkout, list[str]]) -> None:
    checkout, (merge,) = parts
    done = checkout.bash(merge, "-e")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(checkout.folder.glob("build/merged/**/report.html"))) == 1
    (record,) = checkout.folder.glob("build/merged/**/run.json")
    pairs = json.loads(record.read_text(encoding="utf-8"))["pairs"]
    assert sorted(pair["image_set"] for pair in pairs) == ["digits-mini", "mnist-mini"]


def test_a_part_that_is_missing_makes_it_incomplete(parts: tuple[Checkout, list[str]]) -> None:
    checkout, (merge,) = parts
    (checkout.folder / "parts" / "part-2").rename(checkout.folder / "lost")
    assert checkout.bash(merge, "-e").returncode == 3
