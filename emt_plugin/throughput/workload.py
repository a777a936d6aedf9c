"""The work that is timed: label ranking, answers, and runs that find something in the store.

Every cost is the process's CPU time, the least of several rounds; the ways that are compared take turns, so that a
busy machine is busy for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from emt_plugin.catalog import Catalog, Question
from emt_plugin.evaluation import Evaluator
from emt_plugin.models.abilities import with_cache
from emt_plugin.models.backend import MAX_NEW_TOKENS
from emt_plugin.models.checkpoint import find
from emt_plugin.models.conversation import processed
from emt_plugin.models.transformers_backend import TransformersBackend
from emt_plugin.settings import Compute, Settings, Storing
from emt_plugin.throughput.model import labels_of, save
from emt_plugin.throughput.shapes import SHAPES

PROMPT = "What is the object in the image? Please only answer a single object in {}."
BATCH = 16
# Where an image is large for the processor's caches, small batches are faster, with and without labels.
RANKED, RANKED_BATCH = 8, 2
ANSWERED = 64
ROUNDS = 5
# Whole forwards for each label are so slow that some labels stand for all.
LABELS_TIMED = 100
FEW = 2


@dataclass(frozen=True)
class Cost:
    """What some ways of doing the same cost.

    Attributes:
        seconds: CPU-seconds for each image, by the way it was done.
        facts: what was done: images, tokens, labels.
    """

    seconds: Mapping[str, float]
    facts: Mapping[str, Any]

    def ratio(self, one: str, other: str) -> float:
        """How many times as much one way costs as the other."""
        return self.seconds[one] / self.seconds[other]

    def as_record(self) -> dict[str, Any]:
        """Plain data, for ``extra_info``."""
        return {"cpu_seconds_per_image": dict(self.seconds), **self.facts}


class Workload:
    """A saved model, and ways to make it work.

    Args:
        folder: where the model is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = save(folder)
        self.backend = loaded(folder / "model")
        self.parameters = sum(parameter.numel() for parameter in self.backend.model.parameters())
        self._images = pictures(ANSWERED)

    def likelihood(self, count: int, rounds: int = ROUNDS) -> Cost:
        """Ranking so many labels, against the prefill alone and against a forward for each label."""
        question = question_of(count)
        images = self._images[: RANKED if count <= LABELS_TIMED else FEW]
        found = self.backend.candidates_of(question)
        timed = least(
            {
                "likelihood": lambda: self._ranked(images, question),
                "prefill": lambda: self._prefilled(images, question),
            },
            rounds,
            len(images),
        )
        labels = range(min(count, LABELS_TIMED))
        scale = count / len(labels)
        each = least(
            {
                "a forward for each label": lambda: self._each(question, labels, all_logits=True),
                "the same, logits of the label alone": lambda: self._each(question, labels, all_logits=False),
            },
            1,
            1,
        )
        facts = {
            "labels": count,
            "images": len(images),
            "batch": RANKED_BATCH,
            "prompt_tokens": self._tokens(question),
            "label_tokens": sum(found.lengths),
            "most_label_tokens": max(found.lengths) - 1,
            "labels_timed_one_by_one": len(labels),
        }
        return Cost({**timed, **{way: seconds * scale for way, seconds in each.items()}}, facts)

    def scores(self, count: int) -> tuple[list[float], list[float]]:
        """The scores of one image's labels, ranked together and one by one."""
        question = question_of(count)
        (seen,) = self.backend.observe(self._images[:1], question, {"label_logprobs"})
        return list(seen.label_logprobs or ()), self._each(question, range(count), all_logits=True)

    def shape(self, name: str, rounds: int = ROUNDS) -> Cost:
        """Ranking 100 labels with a model of another shape, one of ``SHAPES``, against its prefill alone."""
        return ranked_in(loaded(SHAPES[name](self._folder / name.replace(" ", "-"))), name, rounds)

    def answers(self, rounds: int = ROUNDS) -> Cost:
        """Answers, against a bare loop of ``model.generate`` over the same batches."""
        question = question_of(100)
        timed = least(
            {
                "answer": lambda: self.answered(question),
                "bare generate": lambda: self.bare(question),
            },
            rounds,
            ANSWERED,
        )
        facts = {"images": ANSWERED, "batch": BATCH, "prompt_tokens": self._tokens(question), "new_tokens": MAX_NEW_TOKENS}
        return Cost(timed, facts)

    def same_answers(self) -> bool:
        """Whether both ways give the same answers."""
        question = question_of(100)
        return self.answered(question) == self.bare(question)

    def answered(self, question: Question) -> list[str]:
        """All images' answers through the backend, as the suite gets them."""
        self._forget()
        found = []
        for start in range(0, ANSWERED, BATCH):
            found += self.backend.observe(self._images[start : start + BATCH], question, {"answer"})
        return [str(seen.answer) for seen in found]

    @torch.inference_mode()
    def bare(self, question: Question) -> list[str]:
        """The same, the way a script would."""
        processor, model = self.backend.processor, self.backend.model
        text = self.backend.render(question.prompt)
        found: list[str] = []
        for start in range(0, ANSWERED, BATCH):
            images = self._images[start : start + BATCH]
            inputs = processor(text=[text] * len(images), images=[[image] for image in images], return_tensors="pt")
            made = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            new = made[:, inputs["input_ids"].shape[1] :]
            found += [answer.strip() for answer in processor.batch_decode(new, skip_special_tokens=True)]
        return found

    def runs(self) -> Cost:
        """A pair measured for the first time, once more, and with a second checkpoint that has the same tower."""
        seconds = {}
        for way, model in (("first run", "model"), ("second run", "model"), ("second checkpoint, same tower", "later")):
            before = time.process_time()
            self._measure(model)
            seconds[way] = (time.process_time() - before) / ANSWERED
        return Cost(seconds, {"images": ANSWERED, "batch": BATCH, "new_tokens": MAX_NEW_TOKENS})

    def _measure(self, model: str) -> None:
        """A pair of the bundled emoji, from names to record."""
        file = self._folder / "catalog.toml"
        file.write_text(
            f'[models.m]\nsource = "{self._folder / model}"\nencoder = "{self._folder / "encoder"}"\n',
            encoding="utf-8",
        )
        catalog = Catalog.load(file)
        settings = Settings(
            catalog=catalog,
            compute=Compute(limit=ANSWERED, batch_size=BATCH, dtype="float32", device="cpu"),
            store=Storing(self._folder / "store"),
        )
        evaluator = Evaluator(settings, None, lambda text: None)
        evaluator.measure(evaluator.model(catalog.model("m")), evaluator.image_set(catalog.image_set("emoji-mini")))
        evaluator.close()

    def _tokens(self, question: Question) -> int:
        """Tokens of a prompt, those of its image among them."""
        text = self.backend.render(question.prompt)
        return len(self.backend.processor(text=text, images=self._images[0])["input_ids"][0])

    def _ranked(self, images: list[Image.Image], question: Question) -> None:
        self._forget()
        for start in range(0, len(images), RANKED_BATCH):
            self.backend.observe(images[start : start + RANKED_BATCH], question, {"label_logprobs"})

    @torch.inference_mode()
    def _prefilled(self, images: list[Image.Image], question: Question) -> None:
        """Image and prompt through the model once, logits of the last token alone."""
        from transformers import DynamicCache

        text = self.backend.render(question.prompt)
        for start in range(0, len(images), RANKED_BATCH):
            batch = [[image] for image in images[start : start + RANKED_BATCH]]
            inputs = self.backend.processor(text=[text] * len(batch), images=batch, return_tensors="pt")
            self.backend.model(**inputs, **with_cache(self.backend.model, DynamicCache()), use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def _each(self, question: Question, labels: range, all_logits: bool) -> list[float]:
        """One image, one whole forward for each label, vision included: what harnesses do."""
        text = self.backend.render(question.prompt)
        inputs = self.backend.processor(text=text, images=self._images[0], return_tensors="pt")
        found = self.backend.candidates_of(question)
        prompt = inputs["input_ids"][:, : inputs["input_ids"].shape[1] - found.dropped]
        scores = []
        for label in labels:
            answer = torch.tensor([found.answers[label]])
            ids = torch.cat([prompt, answer], dim=1)
            wanted = found.lengths[label]
            targets = torch.full_like(ids, -100)
            targets[:, -wanted:] = ids[:, -wanted:]
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": inputs["pixel_values"]}
            if all_logits:
                scores.append(-float(self.backend.model(**given, labels=targets).loss) * wanted)
                continue
            logits = self.backend.model(**given, logits_to_keep=wanted + 1).logits[:, :-1].log_softmax(-1)
            scores.append(float(logits.gather(-1, ids[:, -wanted:, None]).sum()))
        return scores

    def _forget(self) -> None:
        """Let the tower see the images anew: what it remembers of the last batch would make it look cheap."""
        assert self.backend.vision is not None
        self.backend.vision.forget()


def ranked_in(backend: TransformersBackend, name: str, rounds: int) -> Cost:
    """Ranking 100 labels by a model of any family, against the prefill alone."""
    question, images = question_of(LABELS_TIMED), pictures(RANKED)
    found = backend.candidates_of(question)
    batches = [images[start : start + RANKED_BATCH] for start in range(0, len(images), RANKED_BATCH)]

    def ranked() -> None:
        for batch in batches:
            backend.observe(batch, question, {"label_logprobs"})

    @torch.inference_mode()
    def prefilled() -> None:
        for batch in batches:
            # Of an encoder and a decoder the prefill is the encoder, and the token that the decoder begins with.
            inputs = processed(backend.processor, [backend.render(question.prompt)] * len(batch), batch, "left")
            backend.model.generate(**inputs, max_new_tokens=1, do_sample=False)

    # Proves the ways of ranking, which is done once for each model.
    ranked()
    with backend.unshelved():
        timed = least({"likelihood": ranked, "prefill": prefilled}, rounds, len(images))
    inputs = processed(backend.processor, [backend.render(question.prompt)], images[:1], "left")
    facts = {
        "shape": name,
        "labels": LABELS_TIMED,
        "images": len(images),
        "batch": RANKED_BATCH,
        "prompt_tokens": int(inputs["input_ids"].shape[1]),
        "label_tokens": sum(found.lengths),
        "packed": bool(backend.packs),
    }
    return Cost(timed, facts)


def loaded(folder: Path) -> TransformersBackend:
    """A saved model, in float32 on the CPU."""
    return TransformersBackend(find(str(folder), folder.name, folder.name), "cpu", "float32", BATCH)


def pictures(count: int) -> list[Image.Image]:
    """So many images of noise, a little larger than what LLaVA sees."""
    return [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (360, 340, 3), dtype=np.uint8)) for seed in range(count)
    ]


def question_of(count: int) -> Question:
    """A question about so many labels, which it lists."""
    labels = labels_of(count)
    return Question(PROMPT.format(", ".join(labels)), labels, labels)


def least(ways: Mapping[str, Callable[[], Any]], rounds: int, images: int) -> dict[str, float]:
    """CPU-seconds for each image of the cheapest of several rounds, the ways taking turns."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            before = time.process_time()
            work()
            found[way].append((time.process_time() - before) / images)
    return {way: min(seconds) for way, seconds in found.items()}
