"""A multimodal LLM in this process, through transformers' Auto classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from PIL import Image

from emt_plugin.errors import CouldNotRun
from emt_plugin.mllms.checkpoint import Checkpoint
from emt_plugin.scoring import Observation, Want

MAX_NEW_TOKENS = 32
BATCH_SIZE = 32


class TransformersBackend:
    """A checkpoint loaded with ``AutoModelForImageTextToText`` and ``AutoProcessor``.

    Args:
        checkpoint: what to load.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None for float32 on the CPU and the checkpoint's own elsewhere.
        batch_size: images in one forward; halved and kept so when memory runs out.
        trust_remote_code: run code that the checkpoint brings.

    Raises:
        CouldNotRun: transformers cannot load it, or it has no usable chat template.
    """

    capabilities: frozenset[Want] = frozenset({"answer"})

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        dtype: str | None = None,
        batch_size: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.batch_size = batch_size or BATCH_SIZE
        self.model, self.processor = _loaded(checkpoint, device, dtype, trust_remote_code)
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Content hash of the weights."""
        if self._fingerprint is None:
            self._fingerprint = self.checkpoint.fingerprint()
        return self._fingerprint

    def observe(
        self, images: Sequence[Image.Image], prompt: str, labels: Sequence[str], want: Collection[Want]
    ) -> list[Observation]:
        """See ``Backend``; answers are greedy, at most ``MAX_NEW_TOKENS`` tokens."""
        unknown = set(want) - self.capabilities
        if unknown:
            raise ValueError(f"this backend cannot observe {', '.join(sorted(unknown))}")
        text = self.render(prompt)
        seen: list[Observation] = []
        while len(seen) < len(images):
            batch = images[len(seen) : len(seen) + self.batch_size]
            try:
                seen += self._answers(batch, text)
            except torch.OutOfMemoryError:
                self._halve(len(batch))
        return seen

    def _halve(self, failed: int) -> None:
        """Smaller batches from here on, after one of ``failed`` images did not fit."""
        if failed == 1:
            raise CouldNotRun(
                f"{self.checkpoint.name} ran out of memory on {self.device} with one image; "
                f"use a larger device or --emt-dtype bfloat16"
            ) from None
        self.batch_size = failed // 2
        torch.cuda.empty_cache()

    def render(self, prompt: str) -> str:
        """The conversation as text: the checkpoint's own chat template with one image before the question."""
        return render(self.processor, prompt, self.checkpoint.name)

    @torch.inference_mode()
    def _answers(self, images: Sequence[Image.Image], text: str) -> list[Observation]:
        tokenizer = self.processor.tokenizer
        inputs = self.processor(
            text=[text] * len(images),
            images=[[image] for image in images],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            # A template that writes the start token itself must not get a second one.
            add_special_tokens=not (tokenizer.bos_token and text.startswith(tokenizer.bos_token)),
        ).to(self.device, dtype=self.model.dtype)
        made = self.model.generate(
            **inputs,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=_pad_token(self.model, tokenizer),
        )
        new = made[:, inputs["input_ids"].shape[1] :]
        answers = self.processor.batch_decode(new, skip_special_tokens=True)
        lengths = (new != _pad_token(self.model, tokenizer)).sum(-1).tolist()
        return [Observation(answer=answer.strip(), new_tokens=length) for answer, length in zip(answers, lengths, strict=True)]


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


def render(processor: Any, prompt: str, name: str) -> str:
    """A user's turn with one image and a question, through a processor's chat template.

    Raises:
        CouldNotRun: there is no chat template, or it drops the image.
    """
    if not getattr(processor, "chat_template", None) and not getattr(processor.tokenizer, "chat_template", None):
        raise CouldNotRun(
            f"{name} has no chat template: set processor.chat_template to its base model's and save the processor"
        )
    image_token = getattr(processor, "image_token", None)
    parts: list[Any] = [[{"type": "image"}, {"type": "text", "text": prompt}]]
    if image_token:
        # The template of a text model takes plain text: there the image token goes into the text.
        parts.append(f"{image_token}\n{prompt}")
    for content in parts:
        text = _rendered(processor, content)
        if text and (not image_token or image_token in text):
            return text
    raise CouldNotRun(f"the chat template of {name} drops the image: '{image_token}' is not in the rendered prompt")


def _rendered(processor: Any, content: Any) -> str | None:
    """One user's turn through the template; None where the template takes no such content."""
    from jinja2 import TemplateError

    owner = processor if getattr(processor, "chat_template", None) else processor.tokenizer
    try:
        turn = [{"role": "user", "content": content}]
        return str(owner.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
    except (TemplateError, TypeError):
        return None


def _pad_token(model: Any, tokenizer: Any) -> int:
    ends = model.generation_config.eos_token_id
    end = ends[0] if isinstance(ends, list) else ends
    for token in (model.generation_config.pad_token_id, tokenizer.pad_token_id, end, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def _loaded(checkpoint: Checkpoint, device: str, dtype: str | None, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    wanted = dtype or ("float32" if device == "cpu" else "auto")
    try:
        processor = AutoProcessor.from_pretrained(checkpoint.folder, backend="pil", trust_remote_code=trust_remote_code)
        model, info = AutoModelForImageTextToText.from_pretrained(
            checkpoint.folder,
            dtype=wanted,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"{checkpoint.name} cannot be loaded by transformers ({type(error).__name__}: {text})") from None
    refuse_random_weights(checkpoint.name, info)
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), processor
