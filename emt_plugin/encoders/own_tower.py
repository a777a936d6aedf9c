"""Is the named encoder the MLLM's own? Its vision weights are compared with the MLLM's tower, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from emt_plugin.models.vision.sight import tower_of
from emt_plugin.models.vision.tower import settings_of

# Settings by which a model may carry a part of its encoder's tower: the layers and the head that it never asks for.
PARTS = {"num_hidden_layers", "vision_use_head"}


@dataclass(frozen=True)
class TowerCheck:
    """How an MLLM's vision tower compares with a named encoder.

    Attributes:
        own: its tensors are the encoder's, in the coarser of the two dtypes, and so are its settings.
        words: the same, for people.
        whole: it lacks nothing of the encoder's tower, so it classifies as the encoder does.
    """

    own: bool
    words: str
    whole: bool = False


def check_tower(mllm: Any, encoder: Any, stored: tuple[str, ...] = ()) -> TowerCheck:
    """Compare the tower inside ``mllm`` with ``encoder.vision_model``, both as transformers models.

    Args:
        mllm: the multimodal LLM.
        encoder: the encoder that is said to be its own.
        stored: dtypes in which the two were stored (``float16``, ...), which may be coarser than those loaded.
    """
    tower = tower_of(mllm)
    if tower is None:
        return TowerCheck(False, "no vision tower found in the model: the encoder is taken on trust")
    inside = _named(tower)
    outside = _named(encoder.vision_model)
    if not set(inside) <= set(outside):
        return TowerCheck(False, "wrong encoder: its tower has another structure, so it is not the model's own")
    differing = [name for name, tensor in inside.items() if not _equal(tensor, outside[name], stored)]
    if differing:
        words = f"tower changed in tuning, or wrong encoder: {len(differing)} of {len(inside)} tensors differ"
        return TowerCheck(False, words)
    mine, theirs = settings_of(tower), settings_of(encoder.vision_model)
    same_class = mine.get("model_type") == theirs.get("model_type")
    # One class may know settings that another with the same weights does not.
    known = mine.keys() | theirs.keys() if same_class else (mine.keys() & theirs.keys()) - {"model_type"}
    other = sorted(name for name in known if mine.get(name) != theirs.get(name))
    if set(other) - PARTS:
        return TowerCheck(False, f"wrong encoder: the same weights with another {', '.join(sorted(set(other) - PARTS))}")
    return TowerCheck(True, "own encoder", whole=same_class and not other and set(inside) == set(outside))


def _named(module: Any) -> dict[str, torch.Tensor]:
    """Tensors by name, without the prefix that some versions put before all of them."""
    state = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    for prefix in ("vision_model.", "model."):
        if state and all(name.startswith(prefix) for name in state):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _equal(one: torch.Tensor, other: torch.Tensor, stored: tuple[str, ...]) -> bool:
    """Equal in the coarsest dtype involved, the one with the largest rounding error."""
    if one.shape != other.shape:
        return False
    dtypes = [one.dtype, other.dtype, *(getattr(torch, name) for name in stored)]
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return torch.equal(one.cpu().to(coarsest), other.cpu().to(coarsest))
