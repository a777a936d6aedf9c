"""A PEFT adapter on top of a loaded model."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emt_plugin.catalog.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from emt_plugin.errors import CouldNotRun

# Before the names of a model's own tensors in an adapter's file.
PREFIX = "base_model.model."


def with_adapter(model: Any, folder: Path, name: str) -> Any:
    """The model with the weights of an adapter.

    In float32 they are merged into the model's, which then costs what its base costs. In half precision a small update would
    be rounded away, so there LoRA is computed beside its layers; and so it is where a merge would change other layers too.

    Args:
        model: the base, loaded.
        folder: the adapter's, its weights as safetensors.
        name: what the user calls it, for messages.

    Raises:
        CouldNotRun: peft is not there, or the adapter does not fit the model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise CouldNotRun(f"{name} is an adapter, which needs peft: pip install 'pytest-emt[finetune]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            older = names_today(model, folder)
            made = PeftModel.from_pretrained(model, str(folder), key_mapping=older)
            if made.active_peft_config.is_prompt_learning or not hasattr(made.base_model, "merge_and_unload"):
                kind = str(made.active_peft_config.peft_type).rpartition(".")[2]
                raise CouldNotRun(f"the adapter {name} is of the kind {kind}, not read here: merge it into its base")
            wanted = set(get_peft_model_state_dict(made, save_embedding_layers=False))
    except CouldNotRun:
        raise
    except Exception as error:  # Whatever a stranger's adapter leads peft to.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"the adapter {name} does not fit its base ({type(error).__name__}: {text})") from None
    lacking, unused = _differences(wanted, _names_as_loaded(made, folder, older))
    # Beside LoRA of an embedding peft saves the embedding itself, and loads it again.
    unused = {name for name in unused if not (name.endswith(".base_layer.weight") and name in made.state_dict())}
    if lacking or unused:
        what = f"lacks {len(lacking)} tensors of it" if lacking else f"has {len(unused)} tensors that it does not"
        raise CouldNotRun(f"the adapter {name} does not fit its base: it {what} ({min(lacking or unused)} among them)")
    half = any(parameter.dtype != torch.float32 for parameter in model.parameters())
    # A bias of LoRA's own has no place in a layer that has none.
    if half or getattr(made.active_peft_config, "lora_bias", False) or _changes_a_shared_weight(made):
        return made.get_base_model()
    try:
        return made.merge_and_unload()
    except Exception as error:  # Some kinds of layers cannot be merged.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"the adapter {name} cannot be merged into its base ({type(error).__name__}: {text})") from None


def _changes_a_shared_weight(made: Any) -> bool:
    """Whether an adapter lies on a weight that another layer has too, as a tied head has the embedding's."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [module.get_base_layer() for module in made.modules() if isinstance(module, BaseTunerLayer)]
    owners: dict[int, set[int]] = {}
    for module in made.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    return any(len(owners[id(own)]) > 1 for layer in adapted for own in layer.parameters(recurse=False))


def _differences(wanted: set[str], found: set[str]) -> tuple[set[str], set[str]]:
    return wanted - found, found - wanted


def names_today(model: Any, folder: Path) -> dict[str, str]:
    """Patterns of names that transformers gave before 4.52, with today's; peft knows those of LoRA's layers, and not these."""
    known = dict(getattr(model, "_checkpoint_conversion_mapping", None) or {})
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    modules = [name for name, _ in model.named_modules()]
    for saved in config.get("modules_to_save") or ():
        full = [name for name in modules if name.endswith(f".{saved}")]
        if len(full) == 1:
            known[rf"^{re.escape(saved)}\."] = f"{full[0]}."
    return known


def _names_as_loaded(made: Any, folder: Path, older: Mapping[str, str]) -> set[str]:
    """Names of an adapter's tensors after all that peft does to them on their way into a model."""
    from safetensors.torch import load_file

    tensors = load_file(folder / ADAPTER_WEIGHTS)
    for pattern, now in older.items():
        tensors = {renamed(name, pattern, now): tensor for name, tensor in tensors.items()}
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers as converted
    except ImportError:
        # An older peft maps no more than that.
        return set(tensors)
    return set(converted(made, made.active_peft_config, tensors))


def renamed(name: str, pattern: str, now: str) -> str:
    """A tensor's name in an adapter, with what a pattern finds in the model's part of it replaced."""
    inner = name.removeprefix(PREFIX)
    return PREFIX + re.sub(pattern, now, inner) if name.startswith(PREFIX) else name
