"""What is learned: one conversation for each training image, in the paper's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emt_plugin.data import ImageSet
from emt_plugin.models.conversation import Answered, answered, conversation, processed

IGNORED = -100


class Conversations(torch.utils.data.Dataset[dict[str, Any]]):
    """The images of a set, each with the whole conversation that names its class.

    The paper's (section 5): the question without the list of labels, which appears at evaluation alone.

    Args:
        image_set: the training images.
        processor: the model's.
        ends: tokens that end an answer.
        name: the model, for messages.

    Raises:
        CouldNotRun: the chat template takes no image or no answer.
    """

    def __init__(self, image_set: ImageSet, processor: Any, ends: list[int], name: str) -> None:
        self._image_set = image_set
        spec = image_set.spec
        asked = conversation(processor, spec.tuning_question(image_set.labels), name)
        answers = [spec.tuned_answer(label) for label in image_set.labels]
        self.of_label: Sequence[Answered] = answered(processor, asked, answers, ends, name)

    def __len__(self) -> int:
        return len(self._image_set.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._image_set.items[index]
        (image,) = self._image_set.images([item])
        return {"image": image, "conversation": self.of_label[item.label]}


class Collator:
    """Makes a batch as the model takes it; the loss sees the answers' tokens alone.

    Args:
        processor: the model's.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` and ``pixel_values`` of some conversations."""
        texts = [row["conversation"].text for row in rows]
        batch = processed(self._processor, texts, [row["image"] for row in rows], "right")
        labels = torch.full_like(batch["input_ids"], IGNORED)
        lengths = batch["attention_mask"].sum(-1).tolist()
        for row, length in enumerate(lengths):
            answer = slice(length - rows[row]["conversation"].new_tokens, length)
            labels[row, answer] = batch["input_ids"][row, answer]
        return {**batch, "labels": labels}
