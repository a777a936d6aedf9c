"""A cache of keys and values with room for what is known to come: transformers' own copies all of it at every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class Filled(Exception):
    """All layers have their keys and values."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not followed here
    """One layer; what is added behind its tokens is written in place as long as there is room.

    Args:
        room: tokens to keep room for behind the first ones.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self.ends = False

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See transformers; gives all keys and values, images x heads x tokens x width."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._buffers is None or after > self._buffers[0].shape[-2]:
            self._buffers = (
                self._larger(self.keys, key_states, before, after),
                self._larger(self.values, value_states, before, after),
            )
        keys, values = self._buffers
        keys[..., before:after, :] = key_states
        values[..., before:after, :] = value_states
        self.keys, self.values = keys[..., :after, :], values[..., :after, :]
        if self.ends:
            raise Filled
        return self.keys, self.values

    def _larger(self, old: torch.Tensor, new: torch.Tensor, before: int, after: int) -> torch.Tensor:
        buffer = new.new_empty(*new.shape[:-2], after + self._room, new.shape[-1])
        if before:
            buffer[..., :before, :] = old
        return buffer


def roomy_cache(room: int) -> DynamicCache:
    """An empty cache in which every layer keeps every token, whatever its window is, so that it can be cut back."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = lambda: RoomyLayer(room)
    return cache


@contextmanager
def only_filling(cache: DynamicCache, layers: int) -> Iterator[None]:
    """A context that is left as soon as the last layer has its keys and values: what it would make of them is not asked for.

    Args:
        cache: an empty one of ``roomy_cache``.
        layers: how many of the model's layers have keys and values.
    """
    made = cache.layer_class_to_replicate

    def made_one() -> RoomyLayer:
        layer: RoomyLayer = made()
        layer.ends = len(cache.layers) == layers - 1
        return layer

    cache.layer_class_to_replicate = made_one
    try:
        yield
    except Filled:
        return
    finally:
        cache.layer_class_to_replicate = made
        for layer in cache.layers:
            layer.ends = False
