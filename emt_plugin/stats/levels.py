"""How sure is sure: one level for every verdict and every interval that is shown."""

ALPHA = 0.05
# Of two-sided intervals, so that chart and one-sided verdict agree.
LEVEL = 1 - 2 * ALPHA
