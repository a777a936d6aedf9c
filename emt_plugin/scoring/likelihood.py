"""The likelihood scorer: which label's answer the model finds most probable."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.scoring.protocol import Observation, Score, ScorerContext, Want

# So many labels, the most probable first, stand in the predictions.
SHOWN = 5


class LikelihoodScorer:
    """The label with the largest log-probability, ties to the lower index.

    By default that is the sum over the tokens of its answer, the end token included; the context may ask for the mean
    over them, or for calibration: less the same under a mean-grey image with the same prompt. Never is anything
    estimated from the evaluated images.
    """

    name = "likelihood"
    version = "1"
    wants: frozenset[Want] = frozenset({"label_logprobs"})

    def __init__(self, context: ScorerContext) -> None:
        self._mean = context.rule == "mean"
        self._neutral = context.neutral if context.calibrated else None
        self._version()

    def _version(self) -> None:
        ways = [way for way, taken in (("mean", self._mean), ("calibrated", self._neutral is not None)) if taken]
        self.version = "+".join(["1", *ways])

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """See ``Scorer``."""
        values = self._values(observation)
        # The index settles ties, and max takes the first.
        order = sorted(range(len(values)), key=lambda index: (-values[index], index))
        prediction = order[0]
        return Score(
            prediction=prediction,
            correct=prediction == label,
            kind=None if prediction == label else "wrong class",
            detail=[[index, round(values[index], 4)] for index in order[:SHOWN]],
        )

    def _values(self, observation: Observation) -> list[float]:
        if observation.label_logprobs is None:
            raise ValueError("the likelihood scorer was handed an observation without log-probabilities")
        values = list(observation.label_logprobs)
        if self._neutral is not None:
            values = [value - neutral for value, neutral in zip(values, self._neutral(), strict=True)]
        if self._mean:
            lengths = observation.label_tokens or ()
            values = [value / length for value, length in zip(values, lengths, strict=True)]
        return values
