"""The cache with room against transformers' own, through any series of updates and cuts."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from emt_plugin.models.cache import only_filling, roomy_cache

# Tokens to add, or with a minus sign to cut off.
STEPS = st.lists(st.integers(-6, 9).filter(bool), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 12), st.integers(1, 3))
def test_it_holds_what_the_plain_one_holds(steps: list[int], room: int, layers: int) -> None:
    torch.manual_seed(0)
    ours, plain = roomy_cache(room), DynamicCache()
    for step in steps:
        if step < 0:
            if plain.get_seq_length() + step < 1:
                continue
            ours.crop(step)
            plain.crop(step)
            continue
        for layer in range(layers):
            keys, values = torch.randn(2, 3, step, 4), torch.randn(2, 3, step, 4)
            for one, other in zip(ours.update(keys, values, layer), plain.update(keys, values, layer), strict=True):
                assert torch.equal(one, other)
    assert ours.get_seq_length() == plain.get_seq_length()


def test_within_its_room_nothing_is_copied() -> None:
    cache = roomy_cache(5)
    keys, _ = cache.update(torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 4), 0)
    place = keys.untyped_storage().data_ptr()
    for _ in range(5):
        keys, _ = cache.update(torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4), 0)
        assert keys.untyped_storage().data_ptr() == place
    keys, _ = cache.update(torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4), 0)
    assert keys.untyped_storage().data_ptr() != place


@given(st.integers(1, 4), st.integers(1, 5))
def test_filling_ends_with_the_last_layers_keys_and_values(layers: int, tokens: int) -> None:
    cache, reached = roomy_cache(3), []
    given_keys = torch.randn(layers, 2, 3, tokens, 4)
    with only_filling(cache, layers):
        for layer in range(layers):
            reached.append(layer)
            cache.update(given_keys[layer], -given_keys[layer], layer)
            assert layer < layers - 1
    assert reached == list(range(layers))
    for layer in range(layers):
        assert torch.equal(cache.layers[layer].keys, given_keys[layer])
        assert torch.equal(cache.layers[layer].values, -given_keys[layer])
    more = torch.randn(2, 3, 1, 4)
    assert cache.update(more, more, layers - 1)[0].shape[-2] == tokens + 1


def test_layers_that_share_keys_and_values_end_no_filling() -> None:
    cache = roomy_cache(3)
    with only_filling(cache, 3):
        cache.update(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), 0)
    assert len(cache.layers) == 1
