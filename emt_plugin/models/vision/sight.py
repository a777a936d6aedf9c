"""What a model's vision tower makes of images, for any model of transformers that says which features an image has.

The tower is shown images of one size at a time, so that each one's share of what it makes is known, and those shares are
kept. While the model then reads or writes, its tower gives what is kept of the images in hand instead of looking again.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from emt_plugin.data.pixels import pixel_hash
from emt_plugin.models.vision.feature_shelf import FeatureShelf, Tensors
from emt_plugin.models.vision.tower import preprocessing_of, settings_of, weights_hash
from emt_plugin.store import Store, code_hash, minor_versions

# What a tower gives and no language model asks for.
UNUSED = {"attentions", "hidden_states"}
STATES = "hidden_states"
# Stands on the shelf for an image where a batch of several sizes has been proven.
PROOF = "several sizes"


class Sight:
    """The vision tower inside a model, with its preprocessing.

    Args:
        model: it, or the model without a head in it, has ``get_image_features``.
        tower: the module in it that sees; None where there is none of its own, and then nothing is kept.
        processor: the checkpoint's.
        store: where what the tower makes is kept.
        processed: the model's inputs for some images and a question, on its device.
        about: names for people.
    """

    def __init__(
        self,
        model: Any,
        tower: Any,
        processor: Any,
        store: Store,
        processed: Callable[[Sequence[Image.Image], str], Any],
        about: dict[str, str] | None = None,
    ) -> None:
        self._model = model
        self.tower = tower
        self._processor = processor
        self._store = store
        self._processed = processed
        self._about = about
        self._proven: bool | None = None
        # The dimension along which images follow one another, by what the tower gives.
        self._along: dict[str, int] = {}
        self._closed = False

    @cached_property
    def _shelf(self) -> FeatureShelf:
        parameter = next(self.tower.parameters())
        plain = {name: value for name, value in vars(self._processor).items() if isinstance(value, int | float | str)}
        key = {
            "tower": weights_hash(self.tower),
            "settings": settings_of(self.tower),
            "preprocessing": preprocessing_of(self._processor.image_processor),
            "processor": {**plain, "class": type(self._processor).__name__, "chat_template": ""},
            "model": type(self._model).__name__,
            "layers": self._layers,
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": parameter.device.type,
            "attention": self.tower.config._attn_implementation,
            "packages": minor_versions("torch", "transformers", "pillow"),
            "code": code_hash("models/vision/sight.py", "data/pixels.py"),
        }
        return FeatureShelf(self._store, key, self._about)

    @cached_property
    def _layers(self) -> list[int]:
        """The hidden states that the model takes from its tower."""
        found = getattr(self._model.config, "vision_feature_layer", None)
        if found is None:
            found = getattr(self._model.config, "vision_feature_layers", ())
        return [found] if isinstance(found, int) else list(found or ())

    @contextmanager
    def unshelved(self) -> Iterator[None]:
        """A context in which every image is seen anew, and nothing is kept."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    @contextmanager
    def showing(self, images: Sequence[Image.Image]) -> Iterator[None]:
        """A context in which the model is asked about these images, in this order, and its tower does not look twice."""
        looks = self.tower is not None and not self._closed and self._proven is not False
        if looks and self._all_new(images):
            with self._instead(self._seeing(images)):
                yield
            return
        made = self._made(images) if looks else None
        if made is None:
            yield
            return
        # Some models write into what their tower gives.
        with self._instead(lambda *arguments, **options: _copied(made)):
            yield

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image], question: str) -> list[dict[str, tuple[float, ...]]]:
        """For each image the mean of what the tower made of it, and of what the language model gets."""
        found: list[dict[str, tuple[float, ...]]] = [{} for _ in images]
        for places in _by_size(images).values():
            group = [images[place] for place in places]
            with self.showing(group):
                output = self._look(group, question)
            means = {
                "vision": _means(output.last_hidden_state, len(group)),
                "projector": _means(output.pooler_output, len(group)),
            }
            for row, place in enumerate(places):
                found[place] = {name: tuple(rows[row]) for name, rows in means.items()}
        return found

    def _all_new(self, images: Sequence[Image.Image]) -> bool:
        """Whether a batch can be kept as the model itself has it looked at: all new, different, and of one size."""
        hashes = {pixel_hash(image) for image in images}
        alike = len(hashes) == len(images) and len(_by_size(images)) == 1
        return alike and (len(images) > 1 or bool(self._along)) and all(self._shelf.get(name) is None for name in hashes)

    def _seeing(self, images: Sequence[Image.Image]) -> Callable[..., Any]:
        """A tower that looks at these images when it is first shown them, and remembers."""
        made: list[ModelOutput] = []

        def seen(*arguments: Any, **options: Any) -> Any:
            if made:
                return _copied(made[0])
            output = type(self.tower).forward(self.tower, *arguments, **options)
            along = self._along or (_followed(output, len(images), self._layers) if isinstance(output, ModelOutput) else None)
            if along is None:
                self._proven = False
                return output
            self._along = along
            made.append(_copied(output))
            self._shelf.put([pixel_hash(image) for image in images], _shares(output, len(images), self._layers, along))
            return output

        return seen

    def _look(self, images: Sequence[Image.Image], question: str) -> Any:
        inputs = self._processed(images, question)
        features = asked_for_features(self._model).get_image_features
        # A model with a head hands on to the one without what it does not name itself.
        inner = getattr(getattr(self._model, "model", None), "get_image_features", features)
        asked = {*inspect.signature(features).parameters, *inspect.signature(inner).parameters}
        if "image_sizes" in inspect.signature(self._model.forward).parameters:
            # Handed on to the tower by some models that do not say so.
            asked.add("image_sizes")
        return features(**{name: inputs[name] for name in inputs if name in asked}, return_dict=True)

    def _made(self, images: Sequence[Image.Image]) -> ModelOutput | None:
        """What the tower makes of a batch, put together from what is kept of each image; None where that does not work."""
        hashes = [pixel_hash(image) for image in images]
        found: dict[str, Tensors | None] = {name: self._shelf.get(name) for name in dict.fromkeys(hashes)}
        missing = {name: image for name, image in zip(hashes, images, strict=True) if found[name] is None}
        if missing and not self._see(missing, found):
            return None
        made = _together([kept for name in hashes if (kept := found[name]) is not None], next(self.tower.parameters()).device)
        if made is None or not self._is_right(images, made):
            return None
        return made

    def _see(self, missing: dict[str, Image.Image], found: dict[str, Tensors | None]) -> bool:
        """Show the tower what is not kept; whether each image's share of what it makes is known."""
        names, images = list(missing), list(missing.values())
        for places in _by_size(images).values():
            # Of one image alone it cannot be told along which dimension others would follow.
            group = [images[place] for place in places] * (1 if len(places) > 1 or self._along else 2)
            output = self._tower_output(group)
            along = self._along or _followed(output, len(group), self._layers)
            if output is None or along is None:
                self._proven = False
                return False
            self._along = along
            shares = _shares(output, len(group), self._layers, along)
            self._shelf.put([names[place] for place in places], {name: value[: len(places)] for name, value in shares.items()})
            for row, place in enumerate(places):
                found[names[place]] = {name: value[row] for name, value in shares.items()}
        return True

    def _tower_output(self, images: Sequence[Image.Image]) -> ModelOutput | None:
        """What the tower itself gives while the model asks for some images' features; None where it is asked otherwise."""
        outputs: list[ModelOutput | None] = []

        def seen(*arguments: Any, **options: Any) -> Any:
            output = type(self.tower).forward(self.tower, *arguments, **options)
            outputs.append(_copied(output) if isinstance(output, ModelOutput) else None)
            return output

        with self._instead(seen):
            self._look(images, "")
        return outputs[0] if len(outputs) == 1 else None

    def _is_right(self, images: Sequence[Image.Image], made: ModelOutput) -> bool:
        """Whether a batch of several sizes, which models may pad, gives what its parts give: proven on the first one."""
        if self._proven is None and len(_by_size(images)) > 1:
            kept = self._shelf.get(PROOF)
            if kept is None:
                whole = self._tower_output(images)
                parts = dict(_tensors(made, self._layers))
                right = whole is not None and all(
                    name in parts and value.shape == parts[name].shape and _are_close(value, parts[name])
                    for name, value in _tensors(whole, self._layers)
                )
                kept = {PROOF: torch.tensor([right])}
                self._shelf.put([PROOF], {PROOF: kept[PROOF][None]})
            self._proven = bool(kept[PROOF].all())
        return self._proven is not False

    @contextmanager
    def _instead(self, forward: Callable[..., Any]) -> Iterator[None]:
        """A context in which the tower does something else."""
        before = vars(self.tower).get("forward")
        self.tower.forward = forward
        try:
            yield
        finally:
            del self.tower.forward
            if before is not None:
                self.tower.forward = before


def asked_for_features(model: Any) -> Any:
    """The part of a model that says which features an image has, in a form of its own; None where there is none."""
    for part in (model, getattr(model, "model", None)):
        features = getattr(part, "get_image_features", None)
        takes = inspect.signature(features).parameters.values() if features else ()
        # Older versions of transformers give projected features alone.
        if any(found.name == "return_dict" or found.kind is found.VAR_KEYWORD for found in takes):
            return part
    return None


def tower_of(model: Any) -> Any:
    """The module of a model that was built from its vision configuration; None where none was."""
    wanted = getattr(model.config, "vision_config", None)
    for module in model.modules():
        config = getattr(module, "config", None)
        if wanted is not None and module is not model and getattr(config, "model_type", None) == wanted.model_type:
            return module
    return None


def _by_size(images: Sequence[Image.Image]) -> dict[tuple[int, int], list[int]]:
    """Places of the images of each size."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        found[image.size].append(place)
    return found


def _tensors(output: ModelOutput, layers: Sequence[int]) -> list[tuple[str, torch.Tensor]]:
    """What is used of a tower's output, by name: a field's, or a field's and a place in it."""
    found = []
    for name, value in output.items():
        if isinstance(value, torch.Tensor):
            found.append((name, value))
        elif name == STATES and layers:
            found += [(f"{name}|{layer % len(value)}/{len(value)}", value[layer]) for layer in sorted(set(layers))]
        elif isinstance(value, list | tuple) and name not in UNUSED:
            found += [(f"{name}|{place}/{len(value)}", part) for place, part in enumerate(value)]
    return found


def _followed(output: ModelOutput | None, images: int, layers: Sequence[int]) -> dict[str, int] | None:
    """The dimension along which several images of one size follow one another, by name; None where there is none."""
    found = {}
    for name, value in _tensors(output, layers) if output is not None else ():
        along = next((at for at in (0, 1) if value.ndim > at and value.shape[at] % images == 0 and value.shape[at]), None)
        if along is None or (along == 1 and value.shape[0] != 1):
            return None
        found[name] = along
    return found or None


def _shares(output: ModelOutput, images: int, layers: Sequence[int], along: dict[str, int]) -> dict[str, torch.Tensor]:
    """Each image's share of what a tower made of images of one size: images x ..., the dimension named."""
    return {
        f"{name}@{along[name]}": torch.stack(value.chunk(images, dim=along[name])) for name, value in _tensors(output, layers)
    }


def _together(shares: Sequence[Tensors], device: Any) -> ModelOutput | None:
    """A tower's output from images' shares; None where they do not fit together."""
    fields: dict[str, Any] = {}
    for full in shares[0]:
        name, _, along = full.partition("@")
        parts = [share[full].to(device) for share in shares if full in share]
        if len(parts) < len(shares) or len({_beside(part, int(along)) for part in parts}) > 1:
            return None
        field, _, place = name.partition("|")
        value = torch.cat(parts, dim=int(along))
        if not place:
            fields[field] = value
            continue
        number, _, length = place.partition("/")
        fields.setdefault(field, [None] * int(length))[int(number)] = value
    made = BaseModelOutputWithPooling(last_hidden_state=fields.pop("last_hidden_state", None))
    for field, value in fields.items():
        made[field] = value
    return made


def _are_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal but for rounding, which in half precision depends on the batch."""
    within = 1e-3 if one.dtype == torch.float32 else 0.1
    return bool(torch.allclose(one.float(), other.float(), rtol=within, atol=within))


def _copied(output: ModelOutput) -> ModelOutput:
    made = BaseModelOutputWithPooling()
    for name, value in output.items():
        made[name] = list(value) if isinstance(value, list) else value
    return made


def _beside(part: torch.Tensor, along: int) -> tuple[int, ...]:
    return tuple(size for at, size in enumerate(part.shape) if at != along)


def _means(output: Any, images: int) -> list[list[float]]:
    """The mean over each image's tokens, images x width, of what was made of images of one size."""
    value = torch.cat([part.reshape(-1, part.shape[-1]) for part in output]) if isinstance(output, list | tuple) else output
    if value.ndim == 4 and value.shape[0] == images:
        # A map, width first.
        value = value.flatten(2).transpose(1, 2)
    rows: list[list[float]] = value.reshape(images, -1, value.shape[-1]).float().mean(1).tolist()
    return rows
