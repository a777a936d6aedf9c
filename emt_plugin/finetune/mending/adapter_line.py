"""An adapter on the line between its base and itself: LoRA by its scaling, whole parts that it has by their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from emt_plugin.catalog.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.adapter import PREFIX, names_today, renamed
from emt_plugin.models.checkpoint import Checkpoint

LORA = ".lora_"
# In the name of a weight below an adapter, which the base calls by the name without it.
BELOW = ".base_layer."
# Rows of an embedding that were trained, behind the name of the embedding.
ROWS = ".token_adapter.trainable_tokens_delta"
# Settings of LoRA under which what is added to a weight grows with lora_alpha alone. What a later peft adds is not among them.
SCALE = {
    "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias", "bias", "fan_in_fan_out", "lora_dropout",
    "target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save",
    "trainable_token_indices", "ensure_weight_tying", "megatron_core", "init_lora_weights", "eva_config",
}  # fmt: skip
# Ways to begin that leave the base as it is; others take from its weights what the adapter adds again.
BEGIN = (None, True, False, "gaussian", "eva", "orthogonal")


class AdapterLine:
    """The states base + alpha * (tuned - base) of a LoRA, each of them an adapter for the same base.

    What LoRA adds to a weight is multiplied by alpha through ``lora_alpha``, and its tensors stay as they are. What the adapter
    has whole (``modules_to_save``, biases, rows of an embedding) is interpolated with the base's in float32.

    Args:
        base: the model that it was trained on.
        folder: the adapter's.
        name: what the user calls it, for messages.

    Raises:
        CouldNotRun: it is of a kind that does not scale so, or does not fit the base.
    """

    def __init__(self, base: Checkpoint, folder: Path, name: str) -> None:
        self._name = name
        self._config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        self._default = _refuse_what_does_not_scale(self._config, name)
        self._tuned = load_file(folder / ADAPTER_WEIGHTS)
        whole = [key for key in self._tuned if LORA not in key]
        self._base = self._of_base(base, folder, whole) if whole else {}

    def write(self, alpha: float, folder: Path) -> None:
        """Write the adapter at ``alpha``, in (0, 1], into a folder.

        Raises:
            OSError: it cannot be written.
        """
        config = dict(self._config)
        config["lora_alpha"] = _number(alpha * config.get("lora_alpha", self._default))
        config["alpha_pattern"] = {key: _number(alpha * value) for key, value in (config.get("alpha_pattern") or {}).items()}
        tensors = {
            key: between(self._base[key], tensor, alpha) if key in self._base else tensor for key, tensor in self._tuned.items()
        }
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _of_base(self, base: Checkpoint, folder: Path, keys: list[str]) -> dict[str, torch.Tensor]:
        """The base's weights under the names that the adapter gives them."""
        from emt_plugin.models.transformers_backend import load_model

        # In the dtype that all are stored in none is rounded, and a large model takes no more than it does on the disk.
        stored = base.stored_dtypes()
        model, _ = load_model(base, "cpu", stored.pop() if len(stored) == 1 else "float32")
        older, known = names_today(model, folder), model.state_dict()
        found = {key: self._one_of_base(key, known, older) for key in keys}
        unfit = next((key for key in keys if found[key].shape != self._tuned[key].shape), None)
        if unfit:
            raise CouldNotRun(f"the adapter {self._name} does not fit its base: {unfit} has another shape there")
        return found

    def _one_of_base(self, key: str, known: Mapping[str, torch.Tensor], older: Mapping[str, str]) -> torch.Tensor:
        name = key
        for pattern, now in older.items():
            name = renamed(name, pattern, now)
        name = name.removeprefix(PREFIX).replace(BELOW, ".")
        module = name.removesuffix(ROWS)
        if f"{module}.weight" in known and name.endswith(ROWS):
            return known[f"{module}.weight"][_rows(self._config["trainable_token_indices"], module)].clone()
        if name not in known:
            raise CouldNotRun(
                f"the adapter {self._name} does not fit its base: it has {key}, and its base nothing of that name"
            )
        return known[name].clone()


def between(base: torch.Tensor, tuned: torch.Tensor, alpha: float) -> torch.Tensor:
    """The tensor base + alpha * (tuned - base), in float32 or the finer dtype of the two; at 1 ``tuned`` to the last bit."""
    dtype = torch.promote_types(torch.promote_types(base.dtype, tuned.dtype), torch.float32)
    there = tuned.to(dtype)
    if alpha == 1:
        return there
    here = base.to(dtype)
    return here + alpha * (there - here)


def _refuse_what_does_not_scale(config: Mapping[str, Any], name: str) -> float:
    """Refuse an adapter whose states are not those of its base and a part of what it adds; returns peft's own lora_alpha.

    Raises:
        CouldNotRun: it is of another kind than LoRA, or has a setting with which it does not grow with lora_alpha.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise CouldNotRun(f"{name} is an adapter, which needs peft: pip install 'pytest-emt[finetune]'") from None
    instead = "merge it into its base with peft's merge_and_unload, save that with its processor, and mend the whole model"
    kind = str(config.get("peft_type"))
    if kind != "LORA":
        raise CouldNotRun(
            f"the adapter {name} is of the kind {kind}, which does not scale between its base and itself: {instead}"
        )
    usual = LoraConfig().to_dict()
    odd = next((key for key, value in config.items() if key not in SCALE and value and value != usual.get(key)), None)
    begins = config.get("init_lora_weights", True)
    if odd is None and not any(begins is way or begins == way for way in BEGIN):
        odd = "init_lora_weights"
    if odd:
        raise CouldNotRun(
            f"the adapter {name} has {odd} {config[odd]}, with which it does not scale between its base and itself: {instead}"
        )
    return float(usual["lora_alpha"])


def _rows(indices: Any, module: str) -> list[int]:
    """Which rows of an embedding were trained."""
    if isinstance(indices, Mapping):
        indices = next(rows for part, rows in indices.items() if module.endswith(part))
    return [int(row) for row in indices]


def _number(value: float) -> float:
    """Whole numbers as such: some that read adapters take no others."""
    return int(value) if value == int(value) else value
