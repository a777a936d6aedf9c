"""A whole fine-tuned model on the line between its base and itself, file by file, so that no more than one is in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from emt_plugin.catalog.checkpoints import ADAPTER_CONFIG
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune.mending.adapter_line import between
from emt_plugin.models.checkpoint import INDEX, SETTINGS, SINGLE, Checkpoint

FLOATING = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# A head that is its embedding is stored by one of two names, or by both.
TIED = ("lm_head.weight", "embed_tokens.weight")
# What older versions stored and every version computes.
COMPUTED = ("rotary_emb.inv_freq", "position_ids")
DTYPE_KEYS = ("dtype", "torch_dtype")


class WeightsLine:
    """The states base + alpha * (tuned - base) of all weights, each of them a model saved as the tuned one is.

    Computed in float32, and stored in the finer of the two dtypes.

    Args:
        base: the model that it was tuned from.
        tuned: the whole tuned model; its settings, tokenizer and processor are those of every state.

    Raises:
        CouldNotRun: the two do not have the same tensors.
    """

    def __init__(self, base: Checkpoint, tuned: Checkpoint) -> None:
        self._tuned = tuned
        if tuned.config.get("quantization_config") or base.config.get("quantization_config"):
            raise CouldNotRun(
                f"{tuned.name} or its base is quantised, and there is no line between such weights: dequantise them"
            )
        self._files = _files(tuned)
        self._theirs = _by_name(_files(base))
        self._mine = _by_name(self._files)
        self._pairs = {name: self._counterpart(name) for name in self._mine}
        self._refuse_what_is_left_out()
        with _Opened() as files:
            for name, other in self._pairs.items():
                if other:
                    self._refuse_other_tensor(name, files.at(self._mine[name]), other, files.at(self._theirs[other]))

    def write(self, alpha: float, folder: Path) -> None:
        """Write the model at ``alpha``, in (0, 1], into a folder.

        Raises:
            OSError: it cannot be written.
        """
        _copy_settings(self._tuned.folder, folder)
        dtypes: set[torch.dtype] = set()
        total = 0
        for path in self._files:
            tensors = self._between(path, alpha)
            dtypes |= {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
            total += sum(tensor.nbytes for tensor in tensors.values())
            save_file(tensors, folder / path.name, metadata={"format": "pt"})
        index = self._tuned.folder / INDEX
        if len(self._files) > 1 or self._files[0].name != SINGLE:
            content = json.loads(index.read_text(encoding="utf-8"))
            content["metadata"] = {**(content.get("metadata") or {}), "total_size": total}
            (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self._say_dtype(folder / "config.json", dtypes)

    def _between(self, path: Path, alpha: float) -> dict[str, torch.Tensor]:
        """The tensors of one file of the tuned model at ``alpha``."""
        made = {}
        with _Opened() as files:
            file = files.at(path)
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                tuned, other = file.get_tensor(name), self._pairs[name]
                if other is None or not tuned.is_floating_point():
                    made[name] = tuned
                    continue
                base = files.at(self._theirs[other]).get_tensor(other)
                made[name] = between(base, tuned, alpha).to(torch.promote_types(base.dtype, tuned.dtype))
        return made

    def _counterpart(self, name: str) -> str | None:
        """The base's name of a tensor; None for one that is computed anew whenever it is loaded.

        Raises:
            CouldNotRun: the base has none.
        """
        if name in self._theirs:
            return name
        if name.endswith(COMPUTED):
            return None
        tied = _tied_to(name, self._theirs)
        if tied is None:
            raise CouldNotRun(
                f"{self._tuned.name} is no checkpoint of the base: it has a tensor {name}, and the base none or one of another "
                f"name; save both with the same version of transformers"
            )
        return tied

    def _refuse_what_is_left_out(self) -> None:
        """Refuse a tuned model without a tensor of the base.

        Raises:
            CouldNotRun: it lacks one, or ties its head to its embedding where the base has one of its own.
        """
        taken = {*self._mine, *self._pairs.values()}
        for name in (name for name in self._theirs if name not in taken and not name.endswith(COMPUTED)):
            tied = _tied_to(name, self._theirs)
            if tied is None:
                raise CouldNotRun(
                    f"{self._tuned.name} is no checkpoint of the base: it lacks {name}, or calls it by another name; save both "
                    f"with the same version of transformers"
                )
            with _Opened() as files:
                one, two = (files.at(self._theirs[part]).get_tensor(part) for part in (name, tied))
            if not torch.equal(one, two):
                raise CouldNotRun(
                    f"{self._tuned.name} is no checkpoint of the base: its head is its embedding, and the base's is not"
                )

    def _refuse_other_tensor(self, name: str, mine: Any, other: str, theirs: Any) -> None:
        """Refuse a tensor that has no line to the base's.

        Raises:
            CouldNotRun: its shape is another, or it is of whole numbers that are.
        """
        one, two = mine.get_slice(name), theirs.get_slice(other)
        if list(one.get_shape()) != list(two.get_shape()):
            raise CouldNotRun(
                f"{self._tuned.name} is no checkpoint of the base: {name} has the shape {list(one.get_shape())} in it and "
                f"{list(two.get_shape())} in the base"
            )
        floats = [part.get_dtype() in FLOATING for part in (one, two)]
        if not all(floats) and (any(floats) or not torch.equal(mine.get_tensor(name), theirs.get_tensor(other))):
            raise CouldNotRun(
                f"{self._tuned.name} cannot be mended: {name} is stored as {one.get_dtype()} in it and {two.get_dtype()} in "
                f"the base, and between such numbers there is nothing"
            )

    def _say_dtype(self, path: Path, dtypes: set[torch.dtype]) -> None:
        """Have the settings name the dtype of the weights, where that is a finer one than the tuned model's."""
        made = {str(dtype).removeprefix("torch.") for dtype in dtypes}
        if len(made) != 1 or made == self._tuned.stored_dtypes():
            return
        config = json.loads(path.read_text(encoding="utf-8"))
        for part in (config, config.get("text_config") or {}):
            part.update(dict.fromkeys([key for key in DTYPE_KEYS if part.get(key)], *made))
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class _Opened(ExitStack):
    """Files of weights, each opened once and all closed at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[Path, Any] = {}

    def at(self, path: Path) -> Any:
        """The file at a path."""
        if path not in self._files:
            self._files[path] = self.enter_context(safe_open(path, "pt"))
        return self._files[path]


def _tied_to(name: str, names: Iterable[str]) -> str | None:
    """Of some tensors the one that a head or an embedding is the same as where the two are tied; None where there is no one."""
    for one, other in (TIED, TIED[::-1]):
        found = [known for known in names if known.endswith(other)]
        if name.endswith(one) and len(found) == 1:
            return found[0]
    return None


def _files(checkpoint: Checkpoint) -> list[Path]:
    """The files that transformers would take the weights from, in order of name."""
    if (checkpoint.folder / SINGLE).exists():
        return [checkpoint.folder / SINGLE]
    index = checkpoint.folder / INDEX
    if not index.exists():
        return checkpoint.weights
    named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [checkpoint.folder / name for name in sorted(set(named))]


def _by_name(files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def _copy_settings(source: Path, folder: Path) -> None:
    """Copy what decides what a model makes of an image and a text; nothing that only training needs."""
    for pattern in SETTINGS:
        for path in source.glob(pattern):
            if path.is_file() and path.name != ADAPTER_CONFIG:
                target = folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
