"""Log-probabilities of labels: over a trie of their answers, in rows, or one by one; the first way that is proven."""
