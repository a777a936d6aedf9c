"""The models of a LENS in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from emt_plugin.catalog import Question
from emt_plugin.encoders import ZeroShotEncoder
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.backend import BATCH, MAX_NEW_TOKENS
from emt_plugin.models.checkpoint import Checkpoint
from emt_plugin.models.conversation import decoded_candidates
from emt_plugin.models.processors import load_processor
from emt_plugin.models.ranking.decoder import can_be_decoded, scored_decoded
from emt_plugin.models.ranking.packed import Prompt, scored_one_by_one
from emt_plugin.models.transformers_backend import end_tokens, ran_out_of_memory, refuse_random_weights
from emt_plugin.pipelines.lens_parts import PROMPT, Assembled
from emt_plugin.scoring import Observation, Want
from emt_plugin.store import Store

# How captions begin, and how long they are in tokens (lens/model.py of the released code).
CAPTIONED = "a picture of"
SHORTEST, LONGEST = 10, 30
# How far ranking all labels at once may be from the plain way, in nats.
CLOSE = 1e-3


class LensEngine:
    """Describes images in words, and answers from those.

    Args:
        parts: what is loaded, and where.
        store: where vision features are kept.

    Raises:
        CouldNotRun: a part cannot be loaded.
    """

    def __init__(self, parts: Assembled, store: Store) -> None:
        from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoTokenizer

        self._parts = parts
        self.batch_size = BATCH
        self.clip = ZeroShotEncoder(parts.clip, parts.device, parts.dtype, store)
        self._captions = _taken(load_processor, parts.captioner)
        self._tokenizer = _taken(AutoTokenizer.from_pretrained, parts.writer)
        self.captioner = self._loaded(AutoModelForImageTextToText, parts.captioner)
        self.writer = self._loaded(AutoModelForSeq2SeqLM, parts.writer)
        self._ends = end_tokens(self.writer, self._tokenizer)
        self._packs = can_be_decoded(self.writer)
        self._proven = False

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """See ``Backend``; a batch that does not fit is halved.

        Raises:
            CouldNotRun: memory ran out with one image.
        """
        seen: list[Observation] = []
        while len(seen) < len(images):
            try:
                seen += self._observed(images[len(seen) : len(seen) + self.batch_size], question, want)
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    name, device = self._parts.writer.name, self._parts.device
                    raise CouldNotRun(f"{name} ran out of memory on {device} with one image; use a larger device") from None
                self.batch_size //= 2
        return seen

    @torch.inference_mode()
    def described(self, images: Sequence[Image.Image], question: str) -> list[str]:
        """What the language model reads of each image."""
        features = self.clip.image_features(images)
        found = zip(
            self._nearest(features, self._parts.tags),
            self._nearest(features, self._parts.attributes),
            self._captioned(images),
            strict=True,
        )
        return [
            PROMPT.format(
                tags="\n-".join(tags), attributes="\n-".join(attributes), captions="\n-".join(captions), question=question
            )
            for tags, attributes, captions in found
        ]

    def _observed(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        inputs = self._tokenizer(self.described(images, question.prompt), return_tensors="pt", padding=True).to(
            self._parts.device
        )
        prompt = Prompt(inputs["input_ids"], inputs["attention_mask"], {})
        answers: list[tuple[str, int] | tuple[None, None]] = [(None, None)] * len(images)
        if "answer" in want:
            answers = list(self._answers(prompt))
        ranked: list[tuple[float, ...] | None] = [None] * len(images)
        tokens = None
        if "label_logprobs" in want:
            found = decoded_candidates(self._tokenizer, question, self._ends)
            tokens = found.lengths
            ranked = [tuple(row) for row in self._ranked(prompt, found).tolist()]
        return [
            Observation(answer=text, new_tokens=length, label_logprobs=scores, label_tokens=tokens)
            for (text, length), scores in zip(answers, ranked, strict=True)
        ]

    def _nearest(self, features: torch.Tensor, words: tuple[str, ...]) -> list[list[str]]:
        """For each image the words that are near enough, the nearest first."""
        parts = self._parts.parts
        cosines = features @ self.clip.text_features_of(words).T
        scores, places = cosines.topk(min(parts.most, len(words)), dim=-1)
        return [
            [words[place] for score, place in zip(row, at, strict=True) if score >= parts.threshold]
            for row, at in zip(scores.tolist(), places.tolist(), strict=True)
        ]

    def _captioned(self, images: Sequence[Image.Image]) -> list[list[str]]:
        """Captions of each image, the most probable first."""
        count = self._parts.parts.captions
        inputs = self._captions(images=list(images), text=[CAPTIONED] * len(images), return_tensors="pt")
        inputs = inputs.to(self._parts.device, dtype=self.captioner.dtype)
        made = self.captioner.generate(
            pixel_values=inputs["pixel_values"], input_ids=inputs["input_ids"], num_beams=count, num_return_sequences=count,
            do_sample=False, min_length=SHORTEST, max_length=LONGEST,
        )  # fmt: skip
        texts = self._captions.batch_decode(made, skip_special_tokens=True)
        plain = [text.strip().removeprefix(CAPTIONED).strip() for text in texts]
        return [plain[start : start + count] for start in range(0, len(plain), count)]

    @torch.inference_mode()
    def _answers(self, prompt: Prompt) -> list[tuple[str, int]]:
        made = self.writer.generate(
            input_ids=prompt.ids, attention_mask=prompt.mask, do_sample=False, num_beams=1, max_new_tokens=MAX_NEW_TOKENS
        )
        # The first token is what the decoder begins with.
        return [self._said(row) for row in made[:, 1:].tolist()]

    def _said(self, tokens: list[int]) -> tuple[str, int]:
        length = next((at for at, token in enumerate(tokens) if token in self._ends), len(tokens))
        text = str(self._tokenizer.decode(tokens[:length], skip_special_tokens=True))
        return text.strip(), min(length + 1, len(tokens))

    @torch.inference_mode()
    def _ranked(self, prompt: Prompt, found: Any) -> torch.Tensor:
        """Images x labels: over a trie where that gives what the plain way gives, which the first batch shows."""
        labels = range(len(found.answers))
        if self._packs:
            scores = scored_decoded(self.writer, prompt, found)
            if self._proven:
                return scores
            plain = scored_one_by_one(self.writer, prompt, found, [0, len(labels) - 1])
            self._packs = self._proven = bool((scores[:, [0, -1]] - plain).abs().max() <= CLOSE)
            if self._proven:
                return scores
        return scored_one_by_one(self.writer, prompt, found, labels)

    def _loaded(self, kind: Any, checkpoint: Checkpoint) -> Any:
        wanted = {"dtype": getattr(torch, self._parts.dtype), "use_safetensors": True, "output_loading_info": True}
        model, info = _taken(partial(kind.from_pretrained, **wanted), checkpoint)
        refuse_random_weights(checkpoint.name, info)
        return model.to(self._parts.device).eval()


def _taken(load: Callable[[Path], Any], checkpoint: Checkpoint) -> Any:
    """What transformers makes of a checkpoint's folder.

    Raises:
        CouldNotRun: it cannot.
    """
    try:
        return load(checkpoint.folder)
    except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"{checkpoint.name} cannot be loaded by transformers ({type(error).__name__}: {text})") from None
