"""Vision features, computed once for each image and shared by all that have the same tower and preprocessing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from PIL import Image

from emt_plugin.data.pixels import pixel_hash
from emt_plugin.models.vision.feature_shelf import FeatureShelf, Tensors
from emt_plugin.store import Store, code_hash, minor_versions

# Settings of an image processor that change no pixel.
NAMES_ONLY = {"processor_class", "_processor_class", "auto_map"}
# Settings of a vision model that decide nothing about what it makes of an image.
IDLE = {
    "_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "projection_dim", "vocab_size",
    "initializer_range", "initializer_factor", "attention_dropout", "dropout", "return_dict", "output_hidden_states",
    "output_attentions", "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "is_encoder_decoder",
}  # fmt: skip


class Features(NamedTuple):
    """What a tower made of some images.

    Attributes:
        patches: images x tokens x width, as the projector takes them; empty where only the pooled output is used.
        pooled: images x width, the tower's pooled output.
    """

    patches: torch.Tensor
    pooled: torch.Tensor


class VisionTower:
    """A vision tower with its preprocessing.

    Args:
        tower: a vision model from transformers whose output has hidden states and a pooled output.
        image_processor: its preprocessing, which gives all images the same size.
        store: where features are kept.
        layers: the hidden states that a projector takes, as in ``vision_feature_layer``; none for the pooled output alone.
        strategy: ``default`` drops the class token, ``full`` keeps it.
        about: names for people.
    """

    def __init__(
        self,
        tower: Any,
        image_processor: Any,
        store: Store,
        layers: int | Sequence[int] = (),
        strategy: str = "default",
        about: dict[str, str] | None = None,
    ) -> None:
        self.tower = tower
        self.preprocessing = preprocessing_of(image_processor)
        self._image_processor = image_processor
        self._store = store
        self._layers = [layers] if isinstance(layers, int) else list(layers)
        self._strategy = strategy
        self._about = about

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the tower's weights as they are loaded."""
        return weights_hash(self.tower)

    @cached_property
    def _shelf(self) -> FeatureShelf:
        parameter = next(self.tower.parameters())
        key = {
            "tower": self.fingerprint,
            "settings": settings_of(self.tower),
            "preprocessing": self.preprocessing,
            "layers": self._layers,
            "strategy": self._strategy,
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": parameter.device.type,
            "attention": self.tower.config._attn_implementation,
            "packages": minor_versions("torch", "transformers", "pillow"),
            "code": code_hash("models/vision/tower.py", "data/pixels.py"),
        }
        return FeatureShelf(self._store, key, self._about)

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Features:
        """Features of some images on the tower's device; only those that are not kept are computed."""
        hashes = [pixel_hash(image) for image in images]
        found: dict[str, Tensors | None] = {name: self._shelf.get(name) for name in dict.fromkeys(hashes)}
        missing = {name: image for name, image in zip(hashes, images, strict=True) if found[name] is None}
        if missing:
            made = self._forward(list(missing.values()))
            self._shelf.put(list(missing), made._asdict())
            if list(missing) == hashes:
                return made
            found |= {name: {"patches": made.patches[row], "pooled": made.pooled[row]} for row, name in enumerate(missing)}
        device = next(self.tower.parameters()).device
        rows = [features for name in hashes if (features := found[name]) is not None]
        patches, pooled = (torch.stack([row[part].to(device) for row in rows]) for part in Features._fields)
        return Features(patches, pooled)

    @contextmanager
    def unshelved(self) -> Iterator[None]:
        """A context in which every image is seen anew, and nothing is kept."""
        # A cached property is an entry in the instance's dictionary; to make it, all weights are hashed.
        kept = vars(self).get("_shelf")
        vars(self)["_shelf"] = FeatureShelf(Store(self._store.folder, "off"), {})
        try:
            yield
        finally:
            del vars(self)["_shelf"]
            if kept is not None:
                vars(self)["_shelf"] = kept

    def forget(self) -> None:
        """Let go of what is remembered in memory of the last images."""
        self._shelf.forget()

    def _forward(self, images: list[Image.Image]) -> Features:
        parameter = next(self.tower.parameters())
        pixels = self._image_processor(images, return_tensors="pt")["pixel_values"]
        output = self.tower(
            pixel_values=pixels.to(parameter.device, dtype=parameter.dtype),
            output_hidden_states=self._layers or False,
            return_dict=True,
        )
        # A SigLIP tower inside a LLaVA may have no head.
        pooled = output.pooler_output
        pooled = pixels.new_empty(len(images), 0) if pooled is None else pooled
        if not self._layers:
            return Features(pooled.new_empty(len(images), 0, 0), pooled)
        chosen = [output.hidden_states[layer] for layer in self._layers]
        if self._strategy == "default":
            chosen = [states[:, 1:] for states in chosen]
        return Features(torch.cat(chosen, dim=-1), pooled)


def preprocessing_of(image_processor: Any) -> str:
    """A hash of everything that an image processor does to pixels."""
    settings = {name: value for name, value in image_processor.to_dict().items() if name not in NAMES_ONLY}
    content = json.dumps([type(image_processor).__name__, settings], sort_keys=True, default=str)
    return sha256(content.encode()).hexdigest()[:32]


def settings_of(tower: Any) -> dict[str, Any]:
    """The settings that decide what a vision model makes of an image, as plain data."""
    found = {name: value for name, value in tower.config.to_dict().items() if name not in IDLE}
    return dict(json.loads(json.dumps(found, sort_keys=True, default=str)))


def weights_hash(module: Any) -> str:
    """A hash of a module's tensors as they are loaded, by their values and dtype."""
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name.removeprefix('vision_model.')}:{plain.dtype}:{tuple(plain.shape)}\0".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
