"""Nothing is computed twice, and nothing old is taken for what has changed: a test for each part of the store's key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.clip.modeling_clip import CLIPVisionModel

from emt_plugin.catalog import Catalog
from emt_plugin.evaluation import Evaluator
from emt_plugin.evaluation.models import ModelLoader
from emt_plugin.models import checkpoint_backend
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend
from emt_plugin.records import PairRecord
from emt_plugin.settings import Compute, Scoring, Settings, Storing
from emt_plugin.store import Store, code
from tests.checkpoints import Recipe, save_encoder, save_llava

RECIPE = Recipe("small")
LABELS = ["airplane", "bird", "cat"]
N = 9


@dataclass
class Bench:
    """A model, its encoder, an image set and a store, to be changed and measured."""

    folder: Path
    compute: Compute = field(default_factory=lambda: Compute(limit=N, dtype="float32", device="cpu"))
    scoring: Scoring = field(default_factory=lambda: Scoring(("answer", "likelihood"), probe_images=0))
    model: str = "model"
    image_set: str = "pictures"
    wording: str = ""

    def measure(self) -> PairRecord:
        """Measure the pair as a run of its own would."""
        file = self.folder / "catalog.toml"
        file.write_text(
            f'[models.m]\nsource = "{self.folder / self.model}"\nencoder = "{self.folder / "encoder"}"\n'
            f'[image_sets.pictures]\nsource = "{self.folder / self.image_set}"\n{self.wording}\n'
        )
        catalog = Catalog.load(file)
        settings = Settings(
            catalog=catalog, compute=self.compute, scoring=self.scoring, store=Storing(self.folder / "store"),
        )  # fmt: skip
        evaluator = Evaluator(settings, None, print)
        model = evaluator.model(catalog.model("m"))
        pair = evaluator.measure(model, evaluator.image_set(catalog.image_set("pictures")))
        evaluator.close()
        return pair

    def computed(self) -> int:
        """How many images had to be computed."""
        pair = self.measure()
        assert pair.replay is not None
        assert pair.replay.computed + pair.replay.replayed == N
        return pair.replay.computed

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a JSON file of the model."""
        path = self.folder / self.model / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def picture_set(folder: Path, changed: int | None = None) -> None:
    import numpy as np
    from PIL import Image

    pictures = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (30, 28, 3), dtype=np.uint8)) for n in range(N)]
    if changed is not None:
        pictures[changed].putpixel((0, 0), (1, 2, 3))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=LABELS)})
    made = datasets.Dataset.from_dict({"image": pictures, "label": [n % 3 for n in range(N)]}, features=features)
    folder.mkdir()
    made.to_parquet(folder / "test.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    encoder = save_encoder(RECIPE, folder / "encoder")
    save_llava(RECIPE, folder / "model", tower=encoder.vision_model)
    picture_set(folder / "pictures")
    bench = Bench(folder)
    assert bench.computed() == N
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    """A copy in which everything has been measured once."""
    shutil.copytree(made, tmp_path / "bench")
    return Bench(tmp_path / "bench")


def test_unchanged_it_is_all_replayed_with_the_same_result(made: Path, bench: Bench) -> None:
    first, again = Bench(made).measure(), bench.measure()
    assert again.replay is not None
    assert (again.replay.replayed, again.replay.computed) == (N, 0)
    assert again.replay.since is not None
    assert (again.scores, again.comparisons, again.steps) == (first.scores, first.comparisons, first.steps)


def test_neither_name_nor_path_nor_a_readme_matters(bench: Bench) -> None:
    shutil.move(bench.folder / "model", bench.folder / "checkpoint-7")
    shutil.move(bench.folder / "pictures", bench.folder / "photos")
    (bench.folder / "checkpoint-7" / "README.md").write_text("moved")
    assert replace(bench, model="checkpoint-7", image_set="photos").computed() == 0


def test_weights(bench: Bench) -> None:
    path = bench.folder / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    tensors[name][0, 0] += 1e-4
    save_file(tensors, path, metadata={"format": "pt"})
    assert bench.computed() == N


def test_an_adapter(bench: Bench) -> None:
    folder = bench.folder / "model"
    before = find(str(folder), "m", "m").fingerprint()
    save_file({"lora": torch.zeros(1)}, folder / "adapter_model.safetensors")
    assert find(str(folder), "m", "m").fingerprint() != before


def test_a_pixel(bench: Bench) -> None:
    shutil.rmtree(bench.folder / "pictures")
    picture_set(bench.folder / "pictures", changed=4)
    assert bench.computed() == 1


def test_images_that_occur_twice_have_rows_of_their_own(bench: Bench) -> None:
    path = bench.folder / "pictures" / "test.parquet"
    table = datasets.load_dataset("parquet", data_files=str(path), split="train")
    datasets.concatenate_datasets([table.select(range(4)), table.select(range(5))]).to_parquet(path)
    pair = bench.measure()
    assert pair.n == N
    assert pair.replay is not None
    assert (pair.replay.replayed, pair.replay.computed) == (5, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["image_processor"].update(image_mean=[0.1, 0.2, 0.3]),
        lambda content: content["image_processor"].update(resample=2),
    ],
)
def test_preprocessing(bench: Bench, change: Callable[[dict[str, Any]], None]) -> None:
    bench.edit("processor_config.json", change)
    assert bench.computed() == N


def test_the_chat_template(bench: Bench) -> None:
    path = bench.folder / "model" / "chat_template.jinja"
    path.write_text(path.read_text() + " ")
    assert bench.computed() == N


def test_the_tokenizer(bench: Bench) -> None:
    bench.edit("tokenizer_config.json", lambda content: content.update(model_max_length=99999))
    assert bench.computed() == N


@pytest.mark.parametrize(
    "wording",
    ['prompt = "Which of {labels} is it?"', 'answer = "It is {a} {}."', 'template = "a drawing of a {}."'],
    ids=["prompt", "answer", "caption"],
)
def test_the_wording(bench: Bench, wording: str) -> None:
    assert replace(bench, wording=wording).computed() == N


def test_an_answers_wording_matters_to_the_likelihood_alone(bench: Bench) -> None:
    changed = replace(bench, wording='answer = "It is {a} {}."', scoring=Scoring(("answer",)))
    assert changed.computed() == 0


def test_generation_settings(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replace(bench, compute=replace(bench.compute, generation="checkpoint")).computed() == N
    monkeypatch.setattr(checkpoint_backend, "MAX_NEW_TOKENS", 31)
    assert bench.computed() == N


def test_the_checkpoints_generation_settings(bench: Bench) -> None:
    bench.edit("generation_config.json", lambda content: content.update(repetition_penalty=1.5))
    assert bench.computed() == N


def test_dtype(bench: Bench) -> None:
    assert replace(bench, compute=replace(bench.compute, dtype="bfloat16")).computed() == N


def test_attention(bench: Bench) -> None:
    assert replace(bench, compute=replace(bench.compute, attention="eager")).computed() == N


def test_the_image_processors_backend(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_backend, "IMAGE_PROCESSOR_BACKEND", "torchvision")
    assert bench.computed() == N


def test_the_device(bench: Bench) -> None:
    """No other device is here; the key says so before anything is loaded."""
    keys = []
    for device in ("cpu", "cuda", "cuda:1"):
        compute = replace(bench.compute, device=device)
        bench.measure()
        catalog = Catalog.load(bench.folder / "catalog.toml")
        loader = ModelLoader(catalog, compute, Store(bench.folder / "store"), print)
        keys.append(loader.find(catalog.model("m")).key)
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.parametrize("package", ["torch", "transformers", "tokenizers", "pillow"])
def test_versions_to_the_minor(bench: Bench, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    version = code.version
    monkeypatch.setattr(code, "version", lambda name: "99.1.2" if name == package else version(name))
    assert bench.computed() == N
    monkeypatch.setattr(code, "version", lambda name: "99.1.7" if name == package else version(name))
    assert bench.computed() == 0


def test_the_code(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_backend, "code_hash", lambda *parts: "changed")
    assert bench.computed() == N


def test_code_is_hashed_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules").mkdir()
    file = tmp_path / "rules" / "one.py"
    hashes = []
    for text in ("a = 1\n", "a = 2\n", "a = 1\n"):
        file.write_text(text)
        monkeypatch.setattr(code, "PACKAGE", tmp_path)
        code.code_hash.cache_clear()
        hashes.append(code.code_hash("rules"))
    code.code_hash.cache_clear()
    assert hashes[0] == hashes[2] != hashes[1]


def test_refresh_computes_everything_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    for mode in ("refresh", "off", "use"):
        file = bench.folder / "catalog.toml"
        bench.measure()
        catalog = Catalog.load(file)
        storing = Storing(bench.folder / "store", mode)
        evaluator = Evaluator(Settings(catalog=catalog, compute=bench.compute, store=storing), None, print)
        pair = evaluator.measure(evaluator.model(catalog.model("m")), evaluator.image_set(catalog.image_set("pictures")))
        evaluated.append(pair.replay.computed if pair.replay else None)
    assert evaluated == [N, N, 0]


@pytest.fixture
def seen_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward of a CLIP tower has taken."""
    counts: list[int] = []
    forward = CLIPVisionModel.forward

    def counted(self: Any, pixel_values: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        counts.append(len(pixel_values))
        return forward(self, pixel_values, *arguments, **options)

    monkeypatch.setattr(CLIPVisionModel, "forward", counted)
    return counts


def other_checkpoint(bench: Bench) -> Bench:
    """The same tower in another language model, as a later checkpoint would have."""
    tensors = load_file(bench.folder / "encoder" / "model.safetensors")
    tower = {name: tensor for name, tensor in tensors.items() if name.startswith("vision_model.")}
    save_llava(RECIPE, bench.folder / "later", seed=5)
    path = bench.folder / "later" / "model.safetensors"
    mine = load_file(path)
    for name in mine:
        if "vision_tower" in name:
            mine[name] = tower["vision_model." + name.partition("vision_tower.")[2].removeprefix("vision_model.")]
    save_file(mine, path, metadata={"format": "pt"})
    return replace(bench, model="later")


def test_model_and_encoder_see_each_image_once(bench: Bench, seen_images: list[int]) -> None:
    shutil.rmtree(bench.folder / "store")
    pair = bench.measure()
    assert pair.encoder is not None
    assert pair.encoder.own
    assert sum(seen_images) == N


def test_a_second_checkpoint_with_the_same_tower_runs_no_vision_forward(bench: Bench, seen_images: list[int]) -> None:
    later = other_checkpoint(bench)
    pair = later.measure()
    assert pair.encoder is not None
    assert pair.encoder.own
    assert pair.replay is not None
    assert pair.replay.computed == N
    assert seen_images == []


def test_what_comes_from_kept_features_is_what_is_computed_whole(bench: Bench) -> None:
    later = other_checkpoint(bench)
    kept = later.measure()
    shutil.rmtree(bench.folder / "store")
    whole = later.measure()
    assert (kept.scores, kept.comparisons, kept.steps) == (whole.scores, whole.comparisons, whole.steps)


def test_another_tower_is_seen_by_itself(bench: Bench, seen_images: list[int]) -> None:
    save_llava(RECIPE, bench.folder / "later", seed=5)
    pair = replace(bench, model="later").measure()
    assert pair.encoder is not None
    assert not pair.encoder.own
    # What the encoder makes of the images is known: its tower is the one that the first model carries.
    assert sum(seen_images) == N


@pytest.mark.parametrize("setting", [{"hidden_act": "gelu"}, {"layer_norm_eps": 0.1}, {"num_attention_heads": 4}])
def test_the_towers_settings(bench: Bench, seen_images: list[int], setting: dict[str, Any]) -> None:
    bench.edit("config.json", lambda content: content["vision_config"].update(setting))
    changed = bench.measure()
    # The model's tower is another now; what the encoder makes of the images by its own is known.
    assert sum(seen_images) == N
    shutil.rmtree(bench.folder / "store")
    assert bench.measure().scores == changed.scores
    assert changed.encoder is not None
    assert not changed.encoder.own
    assert changed.encoder.tower == f"wrong encoder: the same weights with another {next(iter(setting))}"


def test_a_tower_without_its_last_layer_is_own_and_the_encoder_still_whole(bench: Bench) -> None:
    whole = bench.measure()
    path = bench.folder / "model" / "model.safetensors"
    tensors = {
        name: tensor for name, tensor in load_file(path).items() if not ("vision_tower" in name and ".layers.2." in name)
    }
    save_file(tensors, path, metadata={"format": "pt"})
    bench.edit("config.json", lambda content: content["vision_config"].update(num_hidden_layers=2))
    bench.edit("config.json", lambda content: content.update(vision_feature_layer=-1))
    cut = bench.measure()
    assert cut.encoder is not None
    assert whole.encoder is not None
    assert (cut.encoder.own, cut.encoder.correct) == (True, whole.encoder.correct)
    assert cut.scores == whole.scores


def test_a_prompt_with_the_date_in_it_is_another_each_day(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.folder / "model" / "chat_template.jinja"
    path.write_text("{{ strftime_now('%d %B') }} " + path.read_text())
    assert bench.computed() == N
    assert bench.computed() == 0
    backend = TransformersBackend.render
    monkeypatch.setattr(TransformersBackend, "render", lambda self, prompt: "1 April " + backend(self, prompt))
    assert bench.computed() == N


def test_code_of_the_checkpoint(bench: Bench) -> None:
    catalog = Catalog.load(bench.folder / "catalog.toml") if bench.measure() else None
    assert catalog is not None
    loader = ModelLoader(catalog, bench.compute, Store(bench.folder / "store"), print)
    spec = catalog.model("m")
    assert loader.find(spec).key != loader.find(replace(spec, trust_remote_code=True)).key


def test_an_encoder_with_other_preprocessing_sees_for_itself(bench: Bench, seen_images: list[int]) -> None:
    path = bench.folder / "encoder" / "processor_config.json"
    content = json.loads(path.read_text())
    content["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(content))
    shutil.rmtree(bench.folder / "store")
    pair = bench.measure()
    assert pair.encoder is not None
    assert pair.encoder.own
    assert sum(seen_images) == 2 * N


def test_a_damaged_features_file_is_computed_again(bench: Bench, seen_images: list[int]) -> None:
    for kind in ("answer", "label_logprobs", "encoder"):
        shutil.rmtree(bench.folder / "store" / "1" / kind)
    files = sorted((bench.folder / "store").glob("1/features/*/*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:100])
    lost = N - sum(len(_images(file)) for file in files[1:])
    assert bench.computed() == N
    assert sum(seen_images) == lost > 0


def _images(file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return list(json.loads(opened.metadata()["images"]))
