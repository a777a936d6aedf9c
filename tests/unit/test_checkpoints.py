"""Checkpoints on disk: found, put in order of training, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog, CatalogError, trajectories
from emt_plugin.catalog.checkpoints import Provenance, checkpoint_at, checkpoints_matching, provenance_of


def adapter(
    folder: Path, step: int | None = None, epoch: float = 1.0, provenance: bool = False, base: str = "llava-mini"
) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if provenance:
        made = Provenance(base, "0" * 64, step or 0, epoch, "lora", "fashion-mini", "1" * 64)
        (folder / "emt.json").write_text(made.to_json())
    elif step is not None:
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": epoch}))
    return folder


def test_steps_order_checkpoints_and_names_do_not(tmp_path: Path) -> None:
    adapter(tmp_path / "run" / "checkpoint-100", 100)
    adapter(tmp_path / "run" / "checkpoint-20", 20)
    adapter(tmp_path / "run" / "z-first", 3, provenance=True, epoch=0.1)
    (tmp_path / "run" / "logs").mkdir()
    (found,) = checkpoints_matching([f"{tmp_path}/run/*"]).values()
    assert [(state.folder.name, state.step) for state in found] == [
        ("z-first", 3),
        ("checkpoint-20", 20),
        ("checkpoint-100", 100),
    ]


def test_provenance_survives_the_disk(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "c", 7, 0.25, provenance=True)
    found = checkpoint_at(folder)
    assert (found.step, found.epoch, found.adapter) == (7, 0.25, True)
    assert found.provenance is not None
    assert json.loads(found.provenance.to_json()) == json.loads((folder / "emt.json").read_text())


def test_runs_are_folders_and_their_names_tell_checkpoints_apart(tmp_path: Path) -> None:
    adapter(tmp_path / "a" / "checkpoint-1", 1, provenance=True)
    adapter(tmp_path / "b" / "checkpoint-1", 1)
    base = Catalog.load().model("llava-mini")
    runs = trajectories(Catalog.load(), base, [f"{tmp_path}/*/checkpoint-*"])
    assert [(run.name, run.states[0].model.checkpoint) for run in runs] == [("a", "a.checkpoint-1"), ("b", "b.checkpoint-1")]
    assert [run.trained_on for run in runs] == [("fashion-mini",), ()]
    assert runs[0].states[0].model.adapter_base == "0" * 64
    (alone,) = trajectories(Catalog.load(), base, [f"{tmp_path}/b/*"], ["emoji-mini"])
    assert (alone.states[0].model.shown, alone.trained_on) == ("llava-mini@checkpoint-1", ("emoji-mini",))


def test_a_whole_model_is_a_checkpoint_of_its_own_weights(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "trainer_state.json").write_text('{"global_step": 5, "epoch": null}')
    (run,) = trajectories(Catalog.load(), Catalog.load().model("llava-mini"), [str(folder)])
    (state,) = run.states
    assert (state.model.source, state.model.adapter, state.epoch) == (str(folder), None, None)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("nothing/*", "matches nothing"),
        ("run/logs", "matches no checkpoint"),
        ("run/stepless", "does not say after which step it was saved: keep transformers' trainer_state.json"),
        ("run/torn", "cannot read"),
        ("run/strange", "cannot read .* schema 9"),
        ("twice/*", "two checkpoints in .* were saved after step 4"),
    ],
)
def test_what_is_no_trajectory_is_refused_in_one_sentence(tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "run" / "logs").mkdir(parents=True)
    adapter(tmp_path / "run" / "stepless")
    (adapter(tmp_path / "run" / "torn") / "trainer_state.json").write_text('{"global_st')
    (adapter(tmp_path / "run" / "strange") / "emt.json").write_text('{"schema": 9}')
    adapter(tmp_path / "twice" / "one", 4)
    adapter(tmp_path / "twice" / "two", 4)
    with pytest.raises(CatalogError, match=said) as refused:
        checkpoints_matching([f"{tmp_path}/{pattern}"])
    assert "\n" not in str(refused.value)


def test_an_adapter_is_a_model_by_its_base(tmp_path: Path) -> None:
    catalog = Catalog.load()
    spec = catalog.model(str(adapter(tmp_path / "tuned", 7, provenance=True)))
    base = catalog.model("llava-mini")
    assert (spec.id, spec.source, spec.encoder, spec.adapter) == ("tuned", base.source, base.encoder, str(tmp_path / "tuned"))
    assert provenance_of(tmp_path) is None
    with pytest.raises(CatalogError, match=r"trained on 'gone', which is not known here .* evaluate it with --model BASE"):
        catalog.model(str(adapter(tmp_path / "stray", 7, base="gone")))
    (adapter(tmp_path / "nameless") / "adapter_config.json").write_text("{}")
    with pytest.raises(CatalogError, match="names no base model"):
        catalog.model(str(tmp_path / "nameless"))


def test_an_adapter_that_names_another_base_is_refused(tmp_path: Path) -> None:
    catalog = Catalog.load()
    adapter(tmp_path / "run" / "checkpoint-1", 1, base="llava-mini-forgot")
    with pytest.raises(CatalogError, match="was trained on llava-mini-forgot, not on llava-mini: name its own base"):
        trajectories(catalog, catalog.model("llava-mini"), [f"{tmp_path}/run/*"])
    # A path that is not here, and a hub's name of what lies in a folder here, say nothing against it.
    for number, base in enumerate(("/gone/llava", "llava-hf/llava-1.5-7b-hf")):
        adapter(tmp_path / f"other-{number}" / "checkpoint-1", 1, base=base)
        assert trajectories(catalog, catalog.model("llava-mini"), [f"{tmp_path}/other-{number}/*"])


def test_what_means_to_be_a_checkpoint_is_not_passed_over(tmp_path: Path) -> None:
    adapter(tmp_path / "run" / "checkpoint-1", 1)
    broken = tmp_path / "run" / "checkpoint-2"
    broken.mkdir()
    with pytest.raises(CatalogError, match=r"checkpoint-2 is no checkpoint: it has neither adapter_config.json nor"):
        checkpoints_matching([f"{tmp_path}/run/*"])
    (broken / "config.json").write_text("{}")
    (broken / "pytorch_model.bin").write_bytes(b"")
    (broken / "trainer_state.json").write_text('{"global_step": 2}')
    (found,) = checkpoints_matching([f"{tmp_path}/run/*"]).values()
    assert [state.step for state in found] == [1, 2]


def test_folders_with_like_names_have_ids_that_tell_them_apart(tmp_path: Path) -> None:
    catalog = Catalog.load()
    adapter(tmp_path / "run" / "c a", 1)
    adapter(tmp_path / "run" / "c-a", 2)
    (run,) = trajectories(catalog, catalog.model("llava-mini"), [f"{tmp_path}/run/*"])
    ids = [state.model.checkpoint for state in run.states]
    assert len(set(ids)) == 2
    assert all(name is not None and name.startswith("c-a-") for name in ids)


def test_an_adapter_on_an_adapter_is_refused(tmp_path: Path) -> None:
    inner = adapter(tmp_path / "inner", 1)
    outer = adapter(tmp_path / "outer", 1, base=str(inner))
    with pytest.raises(CatalogError, match="was trained on another adapter"):
        Catalog.load().model(str(outer))
