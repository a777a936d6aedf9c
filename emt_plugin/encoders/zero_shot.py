"""Zero-shot classification with an encoder's text tower (paper, appendix B.3): one template, cosine, argmax."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from emt_plugin.errors import CouldNotRun
from emt_plugin.mllms.checkpoint import Checkpoint
from emt_plugin.mllms.transformers_backend import refuse_random_weights
from emt_plugin.mllms.vision import VisionTower, preprocessing_of
from emt_plugin.store import Store

# SigLIP was trained on texts padded to full length, without a mask, and gives other features otherwise.
PADDED_TO_FULL_LENGTH = {"siglip", "siglip2"}
TEXTS_AT_ONCE = 256


class ZeroShotEncoder:
    """A CLIP-like model as a classifier.

    Args:
        checkpoint: what to load.
        device: where it runs.
        dtype: ``float32``, ...; None for float32 on the CPU and the checkpoint's own elsewhere.
        store: where vision features are kept; None to keep none.

    Raises:
        CouldNotRun: transformers cannot load it, or it has no text tower.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str | None = None, store: Store | None = None) -> None:
        from transformers import AutoModel, AutoProcessor
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.checkpoint = checkpoint
        self.device = device
        self._store = store or Store(Path(), "off")
        try:
            self.processor = AutoProcessor.from_pretrained(checkpoint.folder, backend="pil")
            wanted = dtype or ("float32" if device == "cpu" else "auto")
            model, info = AutoModel.from_pretrained(
                checkpoint.folder, dtype=wanted, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
            text = " ".join(str(error).split())[:200]
            raise CouldNotRun(f"{checkpoint.name} cannot be loaded ({type(error).__name__}: {text})") from None
        refuse_random_weights(checkpoint.name, info)
        if not hasattr(model, "get_text_features") or not hasattr(model, "vision_model"):
            raise CouldNotRun(
                f"{checkpoint.name} has no text tower to classify with; name another with --emt-encoder, "
                f"or compare with --emt-reference probe"
            )
        self.model: Any = model.to(device).eval()
        self.vision = self._seen_by(self.model.vision_model)
        self._captions: dict[tuple[str, ...], torch.Tensor] = {}

    def take_tower(self, vision: VisionTower) -> None:
        """Classify with another tower of the same weights, and share its features where it sees the same pixels."""
        self.model.vision_model = None
        same = vision.preprocessing == preprocessing_of(self.processor.image_processor)
        self.vision = vision if same else self._seen_by(vision.tower)

    @torch.inference_mode()
    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit-length features, one row for each text."""
        full = self.model.config.model_type in PADDED_TO_FULL_LENGTH
        inputs = self.processor.tokenizer(
            list(texts),
            padding="max_length" if full else True,
            max_length=self.model.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        wanted = ("input_ids",) if full else ("input_ids", "attention_mask")
        features = self.model.get_text_features(**{name: inputs[name] for name in wanted}).pooler_output
        return _unit(features)

    @torch.inference_mode()
    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Unit-length features, one row for each image."""
        pooled = self.vision.features(images).pooled
        projection = getattr(self.model, "visual_projection", None)
        return _unit(pooled if projection is None else projection(pooled))

    def classify(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[int]:
        """Index of the nearest caption for every image, ties to the lower index; a batch that does not fit is halved.

        Raises:
            CouldNotRun: memory ran out with one image.
        """
        known = tuple(captions)
        if known not in self._captions:
            self._captions[known] = self.text_features(known)
        try:
            return [int(index) for index in (self.image_features(images) @ self._captions[known].T).argmax(-1).tolist()]
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise CouldNotRun(
                    f"{self.checkpoint.name} ran out of memory on {self.device} with one image; use a larger device"
                ) from None
        torch.cuda.empty_cache()
        middle = len(images) // 2
        return self.classify(images[:middle], captions) + self.classify(images[middle:], captions)

    def nearest_label(self, answers: Sequence[str], labels: Sequence[str]) -> list[int]:
        """For each answer the label whose text embedding is nearest, by L2 between unit vectors (paper, appendix D.4)."""
        names = self.text_features(labels)
        found: list[int] = []
        for start in range(0, len(answers), TEXTS_AT_ONCE):
            distances = torch.cdist(self.text_features(answers[start : start + TEXTS_AT_ONCE]), names)
            found += [int(index) for index in distances.argmin(-1).tolist()]
        return found

    def _seen_by(self, tower: Any) -> VisionTower:
        return VisionTower(tower, self.processor.image_processor, self._store, about={"encoder": self.checkpoint.name})


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)
