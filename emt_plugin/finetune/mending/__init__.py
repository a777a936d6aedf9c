"""States between a base and what was tuned from it, and the one of them that forgets nothing."""
