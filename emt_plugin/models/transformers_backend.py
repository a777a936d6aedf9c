"""A multimodal LLM in this process, through transformers' Auto classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from emt_plugin.catalog import Question
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.abilities import takes_seen_images, with_cache
from emt_plugin.models.batch_size import BatchSize, Memory, cpu_memory, cuda_memory
from emt_plugin.models.cache import only_filling, roomy_cache
from emt_plugin.models.checkpoint import Checkpoint
from emt_plugin.models.conversation import (
    Conversation,
    conversation,
    decoded_candidates,
    end_of_turn,
    label_candidates,
    processed,
    tokens_of,
)
from emt_plugin.models.families import first_position, has_encoder
from emt_plugin.models.generation import checkpoint_generation, own_generation, shown
from emt_plugin.models.processors import load_processor, missing_package
from emt_plugin.models.ranking.decoder import can_be_decoded, scored_decoded
from emt_plugin.models.ranking.packed import Prompt, can_be_packed, finds_positions, nodes_of, scored_one_by_one, scored_packed
from emt_plugin.models.ranking.rows import scored_expanded
from emt_plugin.models.ranking.trie import Candidates
from emt_plugin.models.vision.sight import Sight, asked_for_features, tower_of
from emt_plugin.models.vision.tower import VisionTower
from emt_plugin.scoring import Observation, Want
from emt_plugin.scoring.reasoning import is_reasoning_mark
from emt_plugin.store import Store

# How far the packed way may be from the plain one, in nats: rounding alone, by dtype.
CLOSE = {"float32": 1e-3}
# What a plain RuntimeError says when memory has run out: on the CPU, on Apple's GPUs, in cuBLAS.
OUT_OF_MEMORY = ("can't allocate memory", "backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
CLOSE_IN_HALF = 0.5
# Where a template is asked what it writes behind any answer.
ANY_PROMPT = "What is in the image?"


class TransformersBackend:
    """A checkpoint loaded with ``AutoModelForImageTextToText`` and ``AutoProcessor``.

    Args:
        checkpoint: what to load.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None for float32 on the CPU and the checkpoint's own elsewhere.
        batch_size: images in one forward at most; None to find how many fit.
        trust_remote_code: run code that the checkpoint brings.
        attention: implementation of attention; None for the model's own choice.
        store: where vision features are kept; None to keep none.
        say: told what a person who waits should know.
        generation: ``own`` for a configuration of our own, ``checkpoint`` to follow the checkpoint's.
        loaded: the model, ready for inference, and its processor, complete; None to load them.

    Raises:
        CouldNotRun: transformers cannot load it, or it has no usable chat template.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        dtype: str | None = None,
        batch_size: int | None = None,
        trust_remote_code: bool = False,
        attention: str | None = None,
        store: Store | None = None,
        say: Callable[[str], None] = lambda text: None,
        generation: str = "own",
        loaded: tuple[Any, Any] | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._say = say
        self.model, self.processor = loaded or load_model(checkpoint, device, dtype, trust_remote_code, attention)
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self.attention = str(self.model.config.get_text_config(decoder=True)._attn_implementation)
        self.vision = _vision(self.model, self.processor, store or Store(Path(), "off"), checkpoint.name)
        self.sight = None if self.vision else self._sight(store or Store(Path(), "off"))
        self._packable = can_be_packed(self.model)
        # Whether one forward over the trie of labels is proven, and whether a row for each label is.
        self._decodes = has_encoder(self.model) and can_be_decoded(self.model)
        self.packs: bool | None = None if self._packable or self._decodes else False
        self.expands: bool | None = None
        self._batches = BatchSize(batch_size, self._memory, timed=device == "cpu" and self.dtype == "float32")
        self._told = False
        # Padding, an opening that is given and a prompt that is cut may each be taken otherwise: all are proven by themselves.
        self._proven: set[tuple[str, bool, bool, bool]] = set()
        self._mode = generation
        self._fingerprint: str | None = None
        self._conversations: dict[str, Conversation] = {}
        self._prompt_ids: dict[str, torch.Tensor] = {}
        self._candidates: dict[Question, Candidates] = {}

    @property
    def capabilities(self) -> frozenset[Want]:
        """Features only where the tower's output can be told from the projector's."""
        sees = self.vision or self.sight
        return frozenset({"answer", "label_logprobs", "features"} if sees else {"answer", "label_logprobs"})

    @property
    def batch_size(self) -> int:
        """How many images the next forward takes."""
        return self._batches.size

    @property
    def fingerprint(self) -> str:
        """Content hash of the weights."""
        if self._fingerprint is None:
            self._fingerprint = self.checkpoint.fingerprint()
        return self._fingerprint

    @cached_property
    def ends(self) -> list[int]:
        """Tokens that end an answer: those of the generation config, of the tokenizer and of the chat template itself."""
        known = end_tokens(self.model, self.processor.tokenizer)
        return list(dict.fromkeys([*known, *end_of_turn(self.processor, self._asked(ANY_PROMPT), self.checkpoint.name)]))

    @cached_property
    def _generation(self) -> Any:
        """The generation config in force, which is also the model's: transformers fills gaps from there."""
        made = checkpoint_generation if self._mode == "checkpoint" else own_generation
        config = made(self.model, self.ends, _pad_token(self.model, self.processor.tokenizer))
        self.model.generation_config = config
        return config

    @property
    def generation(self) -> dict[str, Any]:
        """The generation config in force, as plain data."""
        words = self.processor.tokenizer.convert_ids_to_tokens(self.ends)
        return shown(self._generation, self._mode, words)

    def render(self, prompt: str) -> str:
        """The conversation as text: the checkpoint's own chat template with one image before the question."""
        return self._asked(prompt).text

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """See ``Backend``; answers are greedy, at most ``MAX_NEW_TOKENS`` tokens."""
        unknown = set(want) - self.capabilities
        if unknown:
            raise ValueError(f"this backend cannot observe {', '.join(sorted(unknown))}")
        seen: list[Observation] = []
        while len(seen) < len(images):
            batch = images[len(seen) : len(seen) + self.batch_size]
            before = time.process_time()
            try:
                seen += self._observed(batch, question, set(want))
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise self._cannot_be_asked(error) from None
                self._smaller(len(batch), error)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise self._cannot_be_asked(error) from None
            else:
                self._batches.fitted(len(batch), time.process_time() - before)
        return seen

    def _smaller(self, failed: int, error: RuntimeError) -> None:
        """Smaller batches from here on, after one of ``failed`` images did not fit."""
        if not self._batches.failed(failed):
            raise CouldNotRun(
                f"{self.checkpoint.name} ran out of memory on {self.device} with one image; "
                f"use a larger device or --emt-dtype bfloat16"
            ) from None
        torch.cuda.empty_cache()

    def _cannot_be_asked(self, error: Exception) -> CouldNotRun:
        """What is said where transformers fails on a checkpoint that it could load."""
        text = " ".join(str(error).split())[:200]
        architecture = type(self.model).__name__
        return CouldNotRun(f"{self.checkpoint.name}, a {architecture}, cannot be asked ({type(error).__name__}: {text})")

    @torch.inference_mode()
    def _observed(self, images: Sequence[Image.Image], question: Question, want: set[Want]) -> list[Observation]:
        """One batch, one prefill."""
        features = self._features(images, question) if "features" in want else [None] * len(images)
        if not want - {"features"}:
            return [Observation(features=found) for found in features]
        with self.sight.showing(images) if self.sight else nullcontext():
            return self._told_of(images, question, want, features)

    def _told_of(
        self,
        images: Sequence[Image.Image],
        question: Question,
        want: set[Want],
        features: Sequence[dict[str, tuple[float, ...]] | None],
    ) -> list[Observation]:
        prompt = self._prompt(images, question.prompt)
        found = self.candidates_of(question) if "label_logprobs" in want else None
        if found:
            self._refuse_another_end(prompt, question, found)
        most = self._refuse_too_long(prompt, found)
        room = max(most if "answer" in want else 0, nodes_of(found) if found else 0)
        # Layers of other kinds than attention have caches of their own, and beams have one each.
        cache = roomy_cache(room) if self._packable else None
        answers: list[tuple[str, int] | tuple[None, None]] = [(None, None)] * len(images)
        if "answer" in want:
            alone = self._generation.num_beams == 1
            answers = list(self._answers(prompt, cache if alone else None, most))
        scores: list[tuple[float, ...] | None] = [None] * len(images)
        tokens = None
        if found:
            tokens = found.lengths
            scores = [tuple(row) for row in self._label_scores(prompt, cache, found).tolist()]
        return [
            Observation(answer=text, new_tokens=length, label_logprobs=ranked, label_tokens=tokens, features=found_features)
            for (text, length), ranked, found_features in zip(answers, scores, features, strict=True)
        ]

    def _prompt(self, images: Sequence[Image.Image], question: str) -> Prompt:
        """The prompts of a batch, tokenised, with what the model needs to see the images."""
        if self.vision is None:
            inputs = self._shown(images, question)
            ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
            return Prompt(ids, mask, dict(inputs))
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        projected = self.model.model.multi_modal_projector(self.vision.features(images).patches)
        if question not in self._prompt_ids:
            # All images have the same size for the tower, so one stands for all.
            self._prompt_ids[question] = self._processed(images[:1], question)["input_ids"].to(self.device)
            self._refuse_other_image_tokens(self._prompt_ids[question], projected.shape[1])
        ids = self._prompt_ids[question].expand(len(images), -1)
        seen = {"image": BaseModelOutputWithPooling(pooler_output=list(projected))}
        return Prompt(ids, torch.ones_like(ids), {"mm_encoder_outputs": seen})

    def _processed(self, images: Sequence[Image.Image], question: str) -> Any:
        return processed(self.processor, [self.render(question)] * len(images), images, "left")

    def _shown(self, images: Sequence[Image.Image], question: str) -> Any:
        """The same on the model's device."""
        return self._processed(images, question).to(self.device, dtype=self.model.dtype)

    def _sight(self, store: Store) -> Sight | None:
        """The tower of a model that says which features an image has; None for others."""
        if asked_for_features(self.model) is None:
            return None
        return Sight(self.model, tower_of(self.model), self.processor, store, self._shown, {"model": self.checkpoint.name})

    def _refuse_other_image_tokens(self, ids: torch.Tensor, made: int) -> None:
        """Refuse a processor that leaves another number of places for an image than the tower fills."""
        written = int((ids == self.model.config.image_token_id).sum())
        if written != made:
            raise CouldNotRun(
                f"the processor of {self.checkpoint.name} writes {written} image tokens where the tower makes {made}: set its "
                f"patch_size, vision_feature_select_strategy and num_additional_image_tokens as its base model's has them"
            )

    def _refuse_another_end(self, prompt: Prompt, question: Question, found: Candidates) -> None:
        """Refuse a processor that writes something behind the prompt, of which the template's answer would not go on."""
        if has_encoder(self.model):
            return
        asked = self._asked(question.prompt)
        text = asked.text + (asked.plain.written if asked.plain else "")
        shared = found.dropped + 1
        if prompt.ids[0, -shared:].tolist() != tokens_of(self.processor.tokenizer, text)[-shared:]:
            raise CouldNotRun(
                f"the processor of {self.checkpoint.name}, a {type(self.processor).__name__}, does not end a prompt as its "
                f"chat template does, so labels cannot be ranked by it: use the scorer answer"
            )

    def _refuse_too_long(self, prompt: Prompt, found: Candidates | None) -> int:
        """How many tokens an answer may have.

        Raises:
            CouldNotRun: prompt and labels take more positions than the model has.
        """
        most = self._generation.max_new_tokens
        positions = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        if not isinstance(positions, int) or positions < 1:
            return int(most)
        if has_encoder(self.model):
            return int(min(most, positions - 1))
        length = prompt.ids.shape[1]
        longest = max(map(len, found.answers)) - found.dropped if found else 1
        if length + longest > positions:
            raise CouldNotRun(
                f"the prompt takes {length} tokens{f' and a label up to {longest} more' if found else ''}, and "
                f"{self.checkpoint.name} has {positions} positions: ask about fewer labels or in fewer words"
            )
        return int(min(most, positions - length))

    def _answers(self, prompt: Prompt, cache: Any, most: int) -> list[tuple[str, int]]:
        """Answers with the number of their tokens, at most ``most``; fills the cache, where there is one."""
        config = copy(self._generation)
        config.max_new_tokens = most
        # To search with beams transformers repeats them where they are.
        inputs = prompt.inputs() if config.num_beams == 1 else deepcopy(prompt.inputs())
        made = self.model.generate(
            input_ids=prompt.ids,
            attention_mask=prompt.mask,
            generation_config=config,
            **({} if cache is None else with_cache(self.model, cache)),
            **({"tokenizer": self.processor.tokenizer} if config.stop_strings or config.token_healing else {}),
            **inputs,
        )
        # A decoder behind an encoder does not repeat the prompt, but writes the token that it begins with.
        start = 1 if has_encoder(self.model) else prompt.ids.shape[1]
        return [self._said(tokens) for tokens in made[:, start:].tolist()]

    def _said(self, tokens: list[int]) -> tuple[str, int]:
        """One answer's text and the number of its tokens, the one that ends it included; behind that is padding."""
        length = next((at for at, token in enumerate(tokens) if token in self.ends), len(tokens))
        return self._text(tokens[:length]).strip(), min(length + 1, len(tokens))

    def _text(self, tokens: list[int]) -> str:
        """Tokens as text, without special ones but for the marks of reasoning: without those it would read as the answer."""
        tokenizer = self.processor.tokenizer
        at = next((at for at, token in enumerate(tokens) if token in self._marks), None)
        if at is None:
            return str(tokenizer.decode(tokens, skip_special_tokens=True))
        before = tokenizer.decode(tokens[:at], skip_special_tokens=True)
        return f"{before}{self._marks[tokens[at]]}{self._text(tokens[at + 1 :])}"

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that open or close reasoning."""
        added = self.processor.tokenizer.added_tokens_decoder
        return {number: str(token) for number, token in added.items() if token.special and is_reasoning_mark(str(token))}

    def _label_scores(self, prompt: Prompt, cache: Any, found: Candidates) -> torch.Tensor:
        """Images x labels; by the first way that is possible and, as its first batches show, right."""
        if self.packs is not False:
            scores, self.packs = self._tried("packs", lambda: self._packed(prompt, cache, found), prompt, found)
            if scores is not None:
                return self._finite(scores)
        if self.expands is not False:
            scores, self.expands = self._tried("expands", lambda: scored_expanded(self.model, prompt, found), prompt, found)
            if scores is not None:
                return self._finite(scores)
        if not self._told:
            self._told = True
            self._say(
                f"{self.checkpoint.name}: attention implementation '{self.attention}' does not support the custom 4-D mask of "
                f"packed scoring, so labels are scored one by one (slow)"
            )
        return self._finite(self._one_by_one(prompt, found, range(len(found.answers))))

    def _tried(
        self, way: str, scored: Callable[[], torch.Tensor], prompt: Prompt, found: Candidates
    ) -> tuple[torch.Tensor | None, bool]:
        """Scores by a way of ranking and whether it is right, proven on the first batch of its kind."""
        kind = way, not bool(prompt.mask.all()), found.given > 0, found.dropped > 0
        if kind in self._proven:
            return scored(), True
        try:
            scores = scored()
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
            if isinstance(error, RuntimeError) and ran_out_of_memory(error):
                raise
            return None, False
        if not self._is_close(scores, prompt, found):
            return None, False
        self._proven.add(kind)
        return scores, True

    def _packed(self, prompt: Prompt, cache: Any, found: Candidates) -> torch.Tensor:
        if self._decodes:
            return scored_decoded(self.model, prompt, found)
        if cache.get_seq_length() == 0:
            told = not bool(prompt.mask.all()) and not finds_positions(self.model)
            padded = {"position_ids": prompt.positions + first_position(self.model)} if told else {}
            # Without the head where there is a model without one.
            part = getattr(self.model, "model", self.model)
            inputs = {**prompt.inputs(), **padded, **with_cache(part, cache), "use_cache": True}
            layers = self.model.config.get_text_config(decoder=True).num_hidden_layers
            with only_filling(cache, layers):
                part(input_ids=prompt.ids, attention_mask=prompt.mask, **inputs)
        return scored_packed(self.model, cache, prompt, found)

    def _is_close(self, scores: torch.Tensor, prompt: Prompt, found: Candidates) -> bool:
        """Whether the packed way gives what the plain way gives, for the longest and the last label."""
        labels = [max(range(len(found.answers)), key=lambda label: len(found.answers[label])), len(found.answers) - 1]
        plain = self._one_by_one(prompt, found, labels)
        return bool((scores[:, labels] - plain).abs().max() <= CLOSE.get(self.dtype, CLOSE_IN_HALF))

    def _one_by_one(self, prompt: Prompt, found: Candidates, labels: Sequence[int]) -> torch.Tensor:
        try:
            return scored_one_by_one(self.model, prompt, found, labels)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            if ran_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:160]
            kind = self.model.config.model_type
            raise CouldNotRun(
                f"labels cannot be ranked by {self.checkpoint.name}, a {kind} ({type(error).__name__}: {text})"
            ) from None

    def _finite(self, scores: torch.Tensor) -> torch.Tensor:
        if bool(torch.isfinite(scores).all()):
            return scores
        raise CouldNotRun(
            f"{self.checkpoint.name} gives no finite probabilities in {self.dtype}; use --emt-dtype float32 or bfloat16"
        )

    def unshelved(self) -> AbstractContextManager[None]:
        """A context in which the vision tower sees every image anew, and nothing of that is kept."""
        sees = self.vision or self.sight
        return sees.unshelved() if sees else nullcontext()

    def _features(self, images: Sequence[Image.Image], question: Question) -> list[dict[str, tuple[float, ...]]]:
        """The mean patch token before and behind the projector."""
        if self.sight:
            return self.sight.features(images, question.prompt)
        assert self.vision is not None
        patches = self.vision.features(images).patches
        projected = self.model.model.multi_modal_projector(patches)
        means = {"vision": patches.float().mean(1).tolist(), "projector": projected.float().mean(1).tolist()}
        return [{name: tuple(rows[image]) for name, rows in means.items()} for image in range(len(images))]

    def _asked(self, prompt: str) -> Conversation:
        if prompt not in self._conversations:
            self._conversations[prompt] = conversation(self.processor, prompt, self.checkpoint.name)
        return self._conversations[prompt]

    def candidates_of(self, question: Question) -> Candidates:
        """The tokens of every label's answer behind the prompt."""
        if question not in self._candidates:
            self._candidates[question] = self._answers_as_tokens(question)
        return self._candidates[question]

    def _answers_as_tokens(self, question: Question) -> Candidates:
        if has_encoder(self.model):
            return decoded_candidates(self.processor.tokenizer, question, self.ends)
        return label_candidates(self.processor, self._asked(question.prompt), question, self.ends, self.checkpoint.name)

    def _memory(self) -> Memory | None:
        if self.device.startswith("cuda"):
            return cuda_memory(self.device)
        return cpu_memory() if self.device == "cpu" else None


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch is that there is no more memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def refuse_random_weights(name: str, info: Any) -> None:
    """Refuse a checkpoint that lacks weights: transformers would fill them with random numbers and go on.

    Raises:
        CouldNotRun: a tensor is missing or has another shape.
    """
    missing = sorted([*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    if missing:
        raise CouldNotRun(
            f"{name} lacks the weights of {len(missing)} tensors ({missing[0]} among them), which would be random: "
            f"save the whole model again"
        )


def _vision(model: Any, processor: Any, store: Store, name: str) -> VisionTower | None:
    """The tower of a LLaVA whose images all have one size; None for architectures and versions that see otherwise."""
    if model.config.model_type != "llava" or model.config.vision_config.model_type == "pixtral" or not takes_seen_images(model):
        return None
    return VisionTower(
        model.model.vision_tower,
        processor.image_processor,
        store,
        model.config.vision_feature_layer,
        model.config.vision_feature_select_strategy,
        {"model": name},
    )


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens at which generation stops, by the generation config and by the tokenizer; 0 where neither has any."""
    ends = model.generation_config.eos_token_id
    known = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
    return list(dict.fromkeys(int(end) for end in known if end is not None)) or [0]


def _pad_token(model: Any, tokenizer: Any) -> int:
    for token in (model.generation_config.pad_token_id, tokenizer.pad_token_id, *end_tokens(model, tokenizer)):
        if token is not None:
            return int(token)
    return 0


def complete(processor: Any, model: Any) -> None:
    """Set what an older processor leaves to the model's configuration, how many tokens an image is, and a token to pad with."""
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    vision = getattr(model.config, "vision_config", None)
    for name, owner in (("patch_size", vision), ("vision_feature_select_strategy", model.config)):
        if hasattr(processor, name) and getattr(processor, name) is None and getattr(owner, name, None) is not None:
            setattr(processor, name, getattr(owner, name))


# What transformers says where a person can do something about it, and what that is.
REMEDIES = {
    "custom code": "brings code of its own, which runs only where it is trusted: give it an entry with "
    "trust_remote_code = true in a file for --emt-catalog",
    "does not recognize this architecture": "has an architecture that this transformers does not know: install a newer one",
    "Unrecognized configuration class": "has an architecture that takes no image together with text, so it cannot be asked",
    "Can't load image processor": "has no image processor, so no image can be shown: save its base model's beside it",
    "Couldn't instantiate the backend tokenizer": "has no tokenizer: save its base model's beside it",
}


def why_not_loaded(name: str, error: Exception) -> str:
    """One sentence on what transformers raised for a checkpoint: what is wrong, and what to do where that is known."""
    package = missing_package(error)
    if package:
        return f"{name} needs the package {package}, which is not installed: pip install {package}"
    known = next((remedy for said, remedy in REMEDIES.items() if said in str(error)), None)
    if known:
        return f"{name} {known}"
    text = " ".join(str(error).split())[:200]
    return f"{name} cannot be loaded by transformers ({type(error).__name__}: {text})"


def load_model(
    checkpoint: Checkpoint, device: str, dtype: str | None, trust_remote_code: bool = False, attention: str | None = None
) -> tuple[Any, Any]:
    """A model with its adapter, ready for inference, and its processor; for the arguments see ``TransformersBackend``.

    Raises:
        CouldNotRun: transformers cannot load it, or its adapter does not fit.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    wanted = dtype or ("float32" if device == "cpu" else "auto")
    try:
        processor = load_processor(checkpoint.folder, trust_remote_code)
        model, info = AutoModelForImageTextToText.from_pretrained(
            checkpoint.folder,
            dtype=wanted,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({"attn_implementation": attention} if attention else {}),
        )
    except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
        raise CouldNotRun(why_not_loaded(checkpoint.name, error)) from None
    refuse_random_weights(checkpoint.name, info)
    if checkpoint.adapter:
        from emt_plugin.models.adapter import with_adapter

        model = with_adapter(model, checkpoint.adapter, checkpoint.name)
    complete(processor, model)
    return model.to(device).eval(), processor
