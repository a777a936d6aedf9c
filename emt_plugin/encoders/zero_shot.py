"""Zero-shot classification with an encoder's text tower (paper, appendix B.3): one template, cosine, argmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from emt_plugin.errors import CouldNotRun
from emt_plugin.mllms.checkpoint import Checkpoint
from emt_plugin.mllms.transformers_backend import refuse_random_weights

# SigLIP was trained on texts padded to full length, without a mask, and gives other features otherwise.
PADDED_TO_FULL_LENGTH = {"siglip", "siglip2"}


class ZeroShotEncoder:
    """A CLIP-like model as a classifier.

    Args:
        checkpoint: what to load.
        device: where it runs.
        dtype: ``float32``, ...; None for float32 on the CPU and the checkpoint's own elsewhere.

    Raises:
        CouldNotRun: transformers cannot load it, or it has no text tower.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str | None = None) -> None:
        from transformers import AutoModel, AutoProcessor
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.checkpoint = checkpoint
        self.device = device
        try:
            self.processor = AutoProcessor.from_pretrained(checkpoint.folder, backend="pil")
            wanted = dtype or ("float32" if device == "cpu" else "auto")
            model, info = AutoModel.from_pretrained(
                checkpoint.folder, dtype=wanted, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
            text = " ".join(str(error).split())[:200]
            raise CouldNotRun(f"the encoder {checkpoint.name} cannot be loaded ({type(error).__name__}: {text})") from None
        refuse_random_weights(f"the encoder {checkpoint.name}", info)
        if not hasattr(model, "get_text_features") or not hasattr(model, "vision_model"):
            raise CouldNotRun(
                f"the encoder {checkpoint.name} has no text tower to classify with; name another with --emt-encoder"
            )
        self.model: Any = model.to(device).eval()

    @torch.inference_mode()
    def text_features(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit-length features, one row for each caption."""
        full = self.model.config.model_type in PADDED_TO_FULL_LENGTH
        inputs = self.processor.tokenizer(
            list(captions),
            padding="max_length" if full else True,
            max_length=self.model.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        wanted = ("input_ids",) if full else ("input_ids", "attention_mask")
        return _unit(self.model.get_text_features(**{name: inputs[name] for name in wanted}))

    @torch.inference_mode()
    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Unit-length features, one row for each image."""
        inputs = self.processor.image_processor(list(images), return_tensors="pt")
        return _unit(self.model.get_image_features(**inputs.to(self.device, dtype=self.model.dtype)))

    def classify(self, batches: Iterator[Sequence[Image.Image]], captions: Sequence[str]) -> list[int]:
        """Index of the nearest caption for every image of every batch; ties to the lower index."""
        texts = self.text_features(captions)
        return [index for images in batches for index in self._nearest(images, texts)]

    def _nearest(self, images: Sequence[Image.Image], texts: torch.Tensor) -> list[int]:
        """One batch, in halves where it does not fit."""
        try:
            return [int(index) for index in (self.image_features(images) @ texts.T).argmax(-1).tolist()]
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise CouldNotRun(
                    f"the encoder {self.checkpoint.name} ran out of memory on {self.device} with one image; use a larger device"
                ) from None
        torch.cuda.empty_cache()
        middle = len(images) // 2
        return self._nearest(images[:middle], texts) + self._nearest(images[middle:], texts)


def _unit(output: Any) -> torch.Tensor:
    features: torch.Tensor = output.pooler_output.float()
    return torch.nn.functional.normalize(features, dim=-1)
