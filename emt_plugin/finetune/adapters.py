"""What is trained: the projector, with or without LoRA on the language model. The vision tower never is."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune.settings import FinetuneSettings
from emt_plugin.models.families import LANGUAGE_MODELS, PROJECTORS, has_encoder

# A prefix of parameters' names that marks LoRA's own.
LORA = "lora_"


def with_adapter(model: Any, settings: FinetuneSettings, base: str) -> Any:
    """A model whose projector, and with ``lora`` an adapter of its language model, can be trained.

    Args:
        model: a multimodal LLM of transformers.
        settings: method, rank, alpha and dropout.
        base: what the adapter remembers its base by.

    Raises:
        CouldNotRun: the model has no projector or language model of a known name, or is asked otherwise in training.
    """
    from peft import LoraConfig, get_peft_model

    _refuse_other_training(model)
    linear = linear_layers(model)
    is_lora = settings.method == "lora"
    config = LoraConfig(
        r=settings.rank if is_lora else 1,
        lora_alpha=settings.alpha if is_lora else 1,
        lora_dropout=settings.dropout if is_lora else 0.0,
        target_modules=layers_pattern(linear) if is_lora else re.escape(linear[0]),
        modules_to_save=[part_named(model, PROJECTORS).rpartition(".")[2]],
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that is deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        made = get_peft_model(model, config)
    # peft takes the folder that the base was loaded from, which means nothing elsewhere.
    made.peft_config["default"].base_model_name_or_path = base
    for name, parameter in made.named_parameters():
        if not is_lora and LORA in name:
            # peft saves no adapter without a layer of its own: this one stays at zero.
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            # In half precision, steps of the optimiser would be rounded away.
            parameter.data = parameter.data.float()
    return made


def linear_layers(model: Any) -> list[str]:
    """Full names of the linear layers of the language model, without the head.

    Raises:
        CouldNotRun: there is no language model of a known name.
    """
    language = part_named(model, LANGUAGE_MODELS)
    found = [
        name
        for name, module in model.named_modules()
        if name.startswith(f"{language}.") and isinstance(module, torch.nn.Linear)
    ]
    return [name for name in found if not name.endswith("lm_head")]


def part_named(model: Any, names: Sequence[str]) -> str:
    """The full name of the outermost part of a model whose own name is one of ``names``.

    Raises:
        CouldNotRun: there is none.
    """
    modules: Mapping[str, Any] = dict(model.named_modules())
    found = sorted((name for name in modules if name.rpartition(".")[2] in names), key=lambda name: name.count("."))
    if not found:
        raise CouldNotRun(
            f"a {model.config.model_type} cannot be fine-tuned here: it has no part named "
            f"{', '.join(names[:-1])} or {names[-1]}"
        )
    return found[0]


def _refuse_other_training(model: Any) -> None:
    """Refuse a model that an answer behind its prompt does not train as it is asked.

    Raises:
        CouldNotRun: it has an encoder for the prompt.
    """
    if has_encoder(model):
        raise CouldNotRun(
            f"a {model.config.model_type} cannot be fine-tuned here: it reads a prompt with an encoder of its own, "
            f"which this training does not do"
        )


def layers_pattern(names: list[str]) -> str:
    """A regular expression for full names of layers, and for no other layer of the model.

    Asked for all linear layers, peft would train those of the vision tower as well.
    """
    common = names[0]
    while not all(name.startswith(f"{common}.") for name in names):
        common = common.rpartition(".")[0]
    leaves = sorted({name.rpartition(".")[2] for name in names})
    return rf"{re.escape(common)}\.(.*\.)?({'|'.join(map(re.escape, leaves))})"
