"""A multimodal LLM in this process, through transformers' Auto classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
        return [
            Observation(answer=answer, new_tokens=tokens)
            for start in range(0, len(images), self.batch_size)
            for answer, tokens in self._fitted(images[start : start + self.batch_size], text)
        ]

    def render(self, prompt: str) -> str:
        """The conversation as text: the checkpoint's own chat template with one image before the question."""
        return render(self.processor, prompt, self.checkpoint.name)

    def _fitted(self, images: Sequence[Image.Image], text: str) -> Iterator[tuple[str, int]]:
        """The answers of one batch; on out-of-memory the same images again, in smaller batches."""
        size = len(images)
        while True:
            try:
                answers = [
                    answer
                    for start in range(0, len(images), size)
                    for answer in self._answers(images[start : start + size], text)
                ]
                return iter(answers)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise CouldNotRun(
                        f"{self.checkpoint.name} ran out of memory on {self.device} with one image; "
                        f"use a larger device or --emt-dtype bfloat16"
                    ) from None
                size = self.batch_size = max(1, size // 2)
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _answers(self, images: Sequence[Image.Image], text: str) -> list[tuple[str, int]]:
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
        return list(zip((answer.strip() for answer in answers), lengths, strict=True))


def render(processor: Any, prompt: str, name: str) -> str:
    """A user's turn with one image and a question, through a processor's chat template.

    Raises:
        CouldNotRun: there is no chat template, or it drops the image.
    """
    image_token = getattr(processor, "image_token", None)
    tokenizer_template = getattr(processor.tokenizer, "chat_template", None)
    if getattr(processor, "chat_template", None):
        content: Any = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    elif tokenizer_template and image_token:
        # A text model's template knows nothing of images: the image token goes into the text.
        turn = {"role": "user", "content": f"{image_token}\n{prompt}"}
        text = processor.tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    else:
        raise CouldNotRun(
            f"{name} has no chat template: set processor.chat_template to its base model's and save the processor"
        )
    if image_token and image_token not in text:
        raise CouldNotRun(f"the chat template of {name} drops the image: '{image_token}' is not in the rendered prompt")
    return str(text)


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
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint.folder, dtype=wanted, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # Whatever a stranger's checkpoint leads transformers to.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"{checkpoint.name} cannot be loaded by transformers ({type(error).__name__}: {text})") from None
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), processor
