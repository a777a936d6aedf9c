"""The batch size against a device of known memory: it grows to what fits, and never beyond what failed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.models.batch_size import FIRST, MOST, SHARE, BatchSize, Memory, cpu_memory

WEIGHTS = 1_000


class Device:
    """A device on which each image of a batch takes so many bytes, beside the weights."""

    def __init__(self, total: int, for_each: int) -> None:
        self.total, self.for_each = total, for_each
        self.peak = WEIGHTS

    def memory(self) -> Memory:
        return Memory(WEIGHTS, self.peak, self.total - WEIGHTS)

    def run(self, images: int) -> bool:
        needed = WEIGHTS + images * self.for_each
        if needed > self.total:
            return False
        self.peak = max(self.peak, needed)
        return True


def work(device: Device, found: BatchSize, images: int) -> list[int]:
    """Run all images; the sizes of the batches that fitted."""
    sizes, done = [], 0
    while done < images:
        size = min(found.size, images - done)
        if device.run(size):
            found.fitted(size)
            sizes.append(size)
            done += size
        else:
            assert found.failed(size)
    return sizes


def test_it_doubles_while_there_is_room() -> None:
    device = Device(10**9, 1)
    assert work(device, BatchSize(None, device.memory), 200) == [8, 16, 32, 64, 64, 16]


def test_it_stops_growing_before_memory_runs_out() -> None:
    device = Device(WEIGHTS + 100 * 30, 100)
    found = BatchSize(None, device.memory)
    sizes = work(device, found, 300)
    assert max(sizes) == 16  # 32 would take more than the share of what is free
    assert sum(sizes) == 300


def test_it_halves_and_runs_the_same_images_again() -> None:
    device = Device(WEIGHTS + 100 * 3, 100)
    found = BatchSize(None, device.memory)
    assert work(device, found, 10) == [2, 2, 2, 2, 2]
    assert not found.failed(1)


@given(st.integers(1, 200), st.integers(1, 500), st.integers(1, 300))
def test_every_image_runs_once_whatever_the_device(capacity: int, for_each: int, images: int) -> None:
    device = Device(WEIGHTS + capacity * for_each, for_each)
    found = BatchSize(None, device.memory)
    sizes = work(device, found, images)
    assert sum(sizes) == images
    assert max(sizes) <= min(capacity, MOST)
    grown = [size for before, size in pairwise(sizes) if size > before]
    assert all(size * for_each <= SHARE * capacity * for_each for size in grown)


def test_a_size_that_was_given_is_the_most() -> None:
    device = Device(10**9, 1)
    assert set(work(device, BatchSize(5, device.memory), 25)) == {5}


def timed(cost: dict[int, float], total: int = 10**9) -> list[int]:
    """The sizes that are tried where an image takes so long in a batch of each size, and the one that is kept."""
    device = Device(total, 1)
    found = BatchSize(None, device.memory, timed=True)
    sizes = []
    for _ in range(12):
        sizes.append(found.size)
        assert device.run(found.size)
        found.fitted(found.size, found.size * cost[found.size])
    return sizes


def test_where_larger_is_faster_it_goes_up() -> None:
    assert timed({8: 0.5, 16: 0.4, 32: 0.3, 64: 0.2})[:6] == [8, 16, 32, 64, 64, 64]


def test_where_larger_is_slower_it_comes_back_and_tries_smaller() -> None:
    assert timed({1: 0.9, 2: 0.2, 4: 0.3, 8: 0.4, 16: 0.5})[:7] == [8, 16, 4, 2, 1, 2, 2]


def test_it_stays_at_the_best() -> None:
    assert timed({4: 0.6, 8: 0.5, 16: 0.4, 32: 0.45})[:6] == [8, 16, 32, 16, 16, 16]
    assert timed({4: 0.39, 8: 0.4, 16: 0.45, 2: 0.5})[:6] == [8, 16, 4, 4, 4, 4]  # too little to go on


def test_times_do_not_take_it_beyond_memory() -> None:
    assert set(timed({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0, 16: 0.1}, total=WEIGHTS + 20)) <= {1, 2, 4, 8}


def test_the_clock_does_not_matter_where_it_must_not() -> None:
    device = Device(10**9, 1)
    found = BatchSize(None, device.memory)
    found.fitted(8, 1.0)
    found.fitted(16, 100.0)
    assert found.size == 32


def test_without_a_reading_it_stays() -> None:
    found = BatchSize(None)
    found.fitted(FIRST)
    assert found.size == FIRST


def test_this_machines_memory_is_read() -> None:
    memory = cpu_memory()
    assert memory is not None
    assert 10**6 < memory.used <= memory.peak
    assert memory.free > 10**6
