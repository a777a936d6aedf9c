"""A PEFT adapter on top of a loaded model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from emt_plugin.catalog.checkpoints import ADAPTER_WEIGHTS
from emt_plugin.errors import CouldNotRun


def with_adapter(model: Any, folder: Path, name: str) -> Any:
    """The model with the weights of an adapter.

    In float32 they are merged into the model's, which then costs what its base costs. In half precision a small update would
    be rounded away, so there LoRA is computed beside its layers.

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
            made = PeftModel.from_pretrained(model, str(folder))
            if made.active_peft_config.is_prompt_learning or not hasattr(made.base_model, "merge_and_unload"):
                kind = str(made.active_peft_config.peft_type).rpartition(".")[2]
                raise CouldNotRun(f"the adapter {name} is of the kind {kind}, not read here: merge it into its base")
            wanted = set(get_peft_model_state_dict(made, save_embedding_layers=False))
    except CouldNotRun:
        raise
    except Exception as error:  # Whatever a stranger's adapter leads peft to.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"the adapter {name} does not fit its base ({type(error).__name__}: {text})") from None
    lacking, unused = _differences(wanted, folder / ADAPTER_WEIGHTS)
    if lacking or unused:
        what = f"lacks {len(lacking)} tensors of it" if lacking else f"has {len(unused)} tensors that it does not"
        raise CouldNotRun(f"the adapter {name} does not fit its base: it {what} ({min(lacking or unused)} among them)")
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        return made.get_base_model()
    try:
        return made.merge_and_unload()
    except Exception as error:  # Some kinds of layers cannot be merged.
        text = " ".join(str(error).split())[:200]
        raise CouldNotRun(f"the adapter {name} cannot be merged into its base ({type(error).__name__}: {text})") from None


def _differences(wanted: set[str], weights: Path) -> tuple[set[str], set[str]]:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        found = set(file.keys())
    return wanted - found, found - wanted
