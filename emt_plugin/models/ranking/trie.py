"""Candidate answers as a trie of tokens, so that one forward scores them all. Pure: no torch.

A node is a token in its context. What follows a node is predicted by a forward over that node, so a node without
children, the end token of an answer, needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """The answers whose probability is wanted, as tokens behind a prompt.

    Attributes:
        dropped: how many of the prompt's last tokens are not shared with all answers: a tokenizer may merge across
            the boundary.
        given: tokens behind the shared prompt that all answers begin with and that are not scored.
        answers: for each label all its tokens behind the shared prompt, the end token last.
    """

    dropped: int
    given: int
    answers: tuple[Tokens, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens of each answer are scored."""
        return tuple(len(tokens) - self.given for tokens in self.answers)


class Edge(NamedTuple):
    """A token that is scored: the node before it, the token, and the label it counts for."""

    node: int
    token: int
    label: int


@dataclass(frozen=True)
class Trie:
    """The nodes that need a forward, parents before their children.

    Attributes:
        tokens: the token of each node; node 0 is the prompt's last shared token.
        parents: the node before each node, -1 for node 0.
        depths: distance from node 0.
        edges: every scored token of every answer.
    """

    tokens: Tokens
    parents: Tokens
    depths: Tokens
    edges: tuple[Edge, ...]


def candidates(prompt: Sequence[int], stem: Sequence[int], full: Sequence[Sequence[int]]) -> Candidates:
    """Cut what is shared from whole conversations.

    Args:
        prompt: tokens of the prompt.
        stem: tokens of the conversation up to the end of the opening that is given, not scored.
        full: for each label the tokens of the whole conversation, the end token last.

    Raises:
        ValueError: an answer shares nothing with the prompt, or nothing of it is left to score.
    """
    shared = common_prefix(prompt, *full)
    given = max(common_prefix(stem, *full), shared)
    if not shared or any(len(tokens) <= given for tokens in full):
        raise ValueError("an answer must begin with the prompt and go on behind it")
    return Candidates(len(prompt) - shared, given - shared, tuple(tuple(tokens[shared:]) for tokens in full))


def trie(root: int, found: Candidates, labels: Sequence[int]) -> Trie:
    """The trie of some labels' answers.

    Args:
        root: the prompt's last shared token.
        found: all answers.
        labels: indices of the labels whose answers are in it.
    """
    tokens, parents, depths = [root], [-1], [0]
    children: dict[tuple[int, int], int] = {}
    edges = []
    for label in labels:
        node = 0
        answer = found.answers[label]
        for position, token in enumerate(answer):
            if position >= found.given:
                edges.append(Edge(node, token, label))
            if position == len(answer) - 1:
                break
            if (node, token) not in children:
                children[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
                depths.append(depths[node] + 1)
            node = children[node, token]
    return Trie(tuple(tokens), tuple(parents), tuple(depths), tuple(edges))


@lru_cache(maxsize=8)
def tries(root: int, found: Candidates, most_nodes: int) -> tuple[Trie, ...]:
    """Tries of about ``most_nodes`` nodes that hold every label once; neighbours in spelling share one."""
    order = sorted(range(len(found.answers)), key=lambda label: found.answers[label])
    groups: list[list[int]] = [[]]
    seen: set[Tokens] = set()
    for label in order:
        answer = found.answers[label]
        nodes = {answer[:length] for length in range(1, len(answer))}
        if groups[-1] and len(seen | nodes) >= most_nodes:
            groups.append([])
            seen = set()
        groups[-1].append(label)
        seen |= nodes
    return tuple(trie(root, found, group) for group in groups)


def common_prefix(*sequences: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length
