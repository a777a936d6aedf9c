"""A test of this repository's own, which the gate does not touch."""


def test_arithmetic() -> None:
    assert 1 + 1 == 2
