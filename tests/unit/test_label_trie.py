"""The trie against the plainest reading of it: walk from the root to every scored token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.models.ranking.trie import Candidates, Trie, candidates, common_prefix, tries

END = 99
WORDS = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)
ANSWERS = st.lists(WORDS, min_size=1, max_size=12)


def path_to(found: Trie, node: int) -> tuple[int, ...]:
    """Tokens from the root, itself left out, to a node."""
    tokens: tuple[int, ...] = ()
    while found.parents[node] >= 0:
        tokens = (found.tokens[node], *tokens)
        node = found.parents[node]
    return tokens


@given(ANSWERS, st.integers(1, 20))
def test_every_scored_token_stands_behind_what_comes_before_it(answers: list[tuple[int, ...]], most: int) -> None:
    made = Candidates(0, 0, tuple((*answer, END) for answer in answers))
    seen: dict[int, list[tuple[int, ...]]] = {}
    for found in tries(7, made, most):
        assert found.tokens[0] == 7
        assert all(found.depths[node] == len(path_to(found, node)) for node in range(len(found.tokens)))
        assert all(parent < node for node, parent in enumerate(found.parents))
        # Nodes are distinct, and each is needed.
        paths = [path_to(found, node) for node in range(len(found.tokens))]
        assert len(set(paths)) == len(paths)
        assert {edge.node for edge in found.edges} == set(range(len(paths)))
        for edge in found.edges:
            seen.setdefault(edge.label, []).append((*paths[edge.node], edge.token))
    assert seen == {
        label: [answer[:length] for length in range(1, len(answer) + 1)] for label, answer in enumerate(made.answers)
    }


@given(ANSWERS, WORDS)
def test_tokens_that_are_given_are_not_scored(answers: list[tuple[int, ...]], given_tokens: tuple[int, ...]) -> None:
    made = Candidates(0, len(given_tokens), tuple((*given_tokens, *answer, END) for answer in answers))
    (found,) = tries(7, made, 10_000)
    scored = {label: [edge.token for edge in found.edges if edge.label == label] for label in range(len(answers))}
    assert scored == {label: [*answer, END] for label, answer in enumerate(answers)}
    assert made.lengths == tuple(len(answer) + 1 for answer in answers)


def test_leaves_need_no_forward() -> None:
    made = Candidates(0, 0, ((1, 2, END), (1, 3, END), (1, END)))
    (found,) = tries(7, made, 100)
    assert found.tokens == (7, 1, 2, 3)


def test_what_is_shared_is_cut_off() -> None:
    # The tokenizer merged the prompt's last token with the answer's first: 5 became 6.
    made = candidates([1, 2, 5], [1, 2, 6, 8], [[1, 2, 6, 8, 3, END], [1, 2, 6, 8, 4, 4, END]])
    assert made == Candidates(1, 2, ((6, 8, 3, END), (6, 8, 4, 4, END)))


def test_an_opening_that_merges_with_a_label_is_scored_from_where_it_differs() -> None:
    made = candidates([1, 2], [1, 2, 8], [[1, 2, 8, 3, END], [1, 2, 9, END]])
    assert made == Candidates(0, 0, ((8, 3, END), (9, END)))


@pytest.mark.parametrize("full", [[[3, 4, END]], [[1, 2]]])
def test_answers_that_do_not_go_on_from_the_prompt_are_refused(full: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="must begin with the prompt"):
        candidates([1, 2], [1, 2], full)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_common_prefix(sequences: list[tuple[int, ...]]) -> None:
    length = common_prefix(*sequences)
    assert len({sequence[:length] for sequence in sequences}) == 1
    assert any(len(s) == length for s in sequences) or len({s[: length + 1] for s in sequences}) > 1
