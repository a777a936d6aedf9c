"""Which tolerance wins, what is refused, and what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_plugin.gate import Tolerances, TolerancesError
from emt_plugin.gate.tolerances import (
    accepted_of,
    loss_to_accept,
    parse_tolerance,
    refuse_inline_tables,
    update_accepted_losses,
)

FILE = """\
# our policy
tolerance = 0.04

[model."llava-*"]
tolerance = 0.03

[pair."llava-mini/emoji"]  # hard
tolerance = 0.10

[pair."other/digits"]
accepted_loss = 0.18
accepted_in = "run-1"
accepted_on = "2026-01-01"
accepted_images = "abc"

[reference.model]
tolerance = 0.02
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tolerances.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("model", "image_set", "kind", "value"),
    [
        ("other", "mnist", "encoder", 0.04),
        ("llava-mini", "mnist", "encoder", 0.03),
        ("llava-mini", "emoji", "encoder", 0.10),
        ("other", "digits", "encoder", 0.18),
        ("other", "digits", "model", 0.02),  # a loss accepted against the encoder is none against a model
        ("other", "digits", "checkpoint", 0.04),
        ("llava-mini", "emoji", "checkpoint", 0.10),
    ],
)
def test_precedence(file: Path, model: str, image_set: str, kind: str, value: float) -> None:
    assert Tolerances.load(file).of(model, image_set, kind).value == value


def test_the_command_line_stands_above_everything(file: Path) -> None:
    tolerance = Tolerances.load(file, override=0.01).of("other", "digits")
    assert (tolerance.value, tolerance.accepted, tolerance.source) == (0.01, False, "--emt-tolerance")


def test_an_accepted_loss_knows_its_policy_and_origin(file: Path) -> None:
    tolerance = Tolerances.load(file).of("other", "digits")
    assert (tolerance.policy, tolerance.accepted) == (0.04, True)
    assert (tolerance.accepted_in, tolerance.accepted_on, tolerance.accepted_images) == ("run-1", "2026-01-01", "abc")


def test_an_accepted_loss_below_policy_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('[pair."m/s"]\naccepted_loss = 0.02\n')
    tolerance = Tolerances.load(path).of("m", "s")
    assert (tolerance.value, tolerance.accepted) == (0.05, False)


def test_without_a_file_it_is_five_points() -> None:
    assert Tolerances.load(None).of("m", "s").value == 0.05


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "write 0.05"),
        ("1", "write 0.01"),
        ("0", r"in \(0, 1\)"),
        ("-0.1", r"in \(0, 1\)"),
        ("500", r"in \(0, 1\)"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("x", "not a number"),
    ],
)
def test_what_is_no_fraction_is_refused(text: str, says: str) -> None:
    with pytest.raises(TolerancesError, match=says):
        parse_tolerance(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tolerance = 5\n", "write 0.05"),
        ("tolerence = 0.05\n", "'tolerence' means nothing"),
        ('[pair."a/b"]\ntolrance = 0.1\n', "may have"),
        ('[pair."a/b"]\naccepted_loss = 12\n', "accepted_loss of a/b"),
        ("[reference.encodr]\n", "means nothing"),
        ("tolerance = [\n", "cannot read"),
        ("tolerance = true\n", "not a number"),
        ("pair = 5\n", "must be tables"),
        ("reference = 5\n", "must be tables"),
        ('[model."m"]\naccepted_loss = 0.2\n', "may have tolerance only"),
        ('[pair."a/b"]\naccepted_images = 5\n', "must be a string"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(TolerancesError, match=says):
        Tolerances.load(path)


def test_updating_writes_accepted_losses_only(file: Path) -> None:
    update_accepted_losses(file, {"new/set": (0.21, "fff", None)}, "encoder", "run-2", "2026-02-02")
    text = file.read_text()
    assert text.startswith(FILE[: FILE.index("[reference")])
    assert "# hard" in text
    tolerance = Tolerances.load(file).of("new", "set")
    assert (tolerance.value, tolerance.policy, tolerance.accepted_in) == (0.21, 0.04, "run-2")
    assert Tolerances.load(file).of("llava-mini", "emoji").value == 0.10


def test_updating_against_a_model_keeps_to_its_own_table(file: Path) -> None:
    update_accepted_losses(file, {"new/set": (0.21, "fff", None)}, "model", "run-2", "2026-02-02")
    assert Tolerances.load(file).of("new", "set", "model").value == 0.21
    assert Tolerances.load(file).of("new", "set", "encoder").value == 0.04


def test_updating_keeps_to_the_table_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("[reference.encoder]\ntolerance = 0.02\n")
    update_accepted_losses(path, {"a/b": (0.3, "f", None)}, "encoder", "r", "d")
    assert Tolerances.load(path).of("a", "b").value == 0.3


def test_inline_tables_are_refused_before_a_run(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('pair = {"a/b" = {tolerance = 0.1}}\n')
    with pytest.raises(TolerancesError, match="write pairs as tables"):
        refuse_inline_tables(path)


def test_a_loss_accepted_for_one_reference_keeps_the_files_own_policy(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        'tolerance = 0.05\n[model."llava-*"]\ntolerance = 0.03\n[reference.model.pair."llava-x/mnist"]\naccepted_loss = 0.04\n'
    )
    tolerance = Tolerances.load(path).of("llava-x", "mnist", "model")
    assert (tolerance.value, tolerance.policy, tolerance.accepted) == (0.04, 0.03, True)


def test_updating_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    update_accepted_losses(path, {"a/b": (0.3, "f", None)}, "encoder", "r", "d")
    assert Tolerances.load(path).of("a", "b").value == 0.3


@pytest.mark.parametrize(("low", "loss"), [(-0.0612, 0.07), (-0.07, 0.08), (-0.9999, 0.99), (-1.0, 0.99)])
def test_a_loss_is_accepted_to_the_next_whole_point(low: float, loss: float) -> None:
    assert loss_to_accept(low) == loss


def test_a_loss_is_accepted_of_the_answer_alone(tmp_path: Path) -> None:
    file = tmp_path / "tolerances.toml"
    file.write_text('tolerance = 0.03\n[pair."m/s"]\naccepted_loss = 0.2\n')
    read = Tolerances.load(file)
    assert (read.of("m", "s").value, read.of("m", "s").accepted) == (0.2, True)
    other = read.of("m", "s", scorer="likelihood")
    assert (other.value, other.accepted) == (0.03, False)


def test_a_loss_accepted_of_a_bundled_pair_passes_no_other_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tolerances.toml"
    bundled = accepted_of("bundled:llava-mini", "bundled:emoji-mini")
    assert bundled is not None
    update_accepted_losses(path, {"llava-mini/emoji-mini": (0.2, "abc", bundled)}, "encoder", "run", "2026-01-01")
    read = Tolerances.load(path)
    assert read.of("llava-mini", "emoji-mini", of=bundled).value == 0.2
    for model, image_set in (("./mine/llava-mini", "bundled:emoji-mini"), ("bundled:llava-mini", "./emoji-mini")):
        assert accepted_of(model, image_set) is None
        assert read.of("llava-mini", "emoji-mini", of=accepted_of(model, image_set)).value == 0.05
    update_accepted_losses(path, {"llava-mini/emoji-mini": (0.1, "abc", None)}, "encoder", "run", "2026-01-02")
    assert Tolerances.load(path).of("llava-mini", "emoji-mini").value == 0.1
