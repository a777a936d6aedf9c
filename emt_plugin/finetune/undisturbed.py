"""A model in training is asked something, and the training never knows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from emt_plugin.models.devices import free_memory


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """A context in which every part of a model is in evaluation mode, and behind which nothing has changed.

    Neither has what a part remembers of its last forward, its own generation config or which of its parts were in evaluation
    mode already; nor the random states of Python, numpy, torch and the GPUs that the model is on. Memory of a GPU that was
    taken meanwhile is given back.

    Args:
        model: any module.
    """
    # A mode may be one part's own: training frozen parts in evaluation mode is common.
    known = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters()}
    gpus = sorted(device.index or 0 for device in devices if device.type == "cuda")
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(gpus))
            stack.enter_context(_chance())
            for module, *_ in known:
                module.training = False
            yield
    finally:
        for module, attributes, buffers in known:
            # What else is new stays: transformers marks where it has hooked itself in. A tensor that was kept for the next
            # forward was made without gradients, and training must not meet it.
            for name in [new for new, value in vars(module).items() if new not in attributes and torch.is_tensor(value)]:
                delattr(module, name)
            vars(module).update(attributes)
            module._buffers.update(buffers)
        for device in devices:
            free_memory(str(device))


@contextmanager
def _chance() -> Iterator[None]:
    """A context behind which the random states of Python and numpy are as before it."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
