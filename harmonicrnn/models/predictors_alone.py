"""PredictorsAlone, baselines without training: adaptive linear predictors, the last sample, and linear extrapolation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harmonicrnn.models.autoregressive_net import AutoregressiveNet, ModelState
from harmonicrnn.models.prediction import LinearPrediction, Prediction, PredictionState
from harmonicrnn.models.state import State, after
from harmonicrnn.ops.prediction import Predictor, PredictorState, component_log_probabilities

PREDICTORS = "linear predictors"
Filters = Prediction | Sequence[float]
FILTERS: dict[str, Filters] = {PREDICTORS: Prediction(), "last sample": (1.0,), "linear extrapolation": (2.0, -1.0)}
"""Filters by name, as arguments of `PredictorsAlone`."""


class FixedPrediction(LinearPrediction):
    """`LinearPrediction` with one predictor and a fixed filter; scale and mixture adapt.

    Args:
        weights: w of p_t = sum_k w_k x_{t-k}, k from 1, clamped to [-1, 1]; samples before the first are 0.
        classes: q.
    """

    def __init__(self, weights: Sequence[float], classes: int) -> None:
        super().__init__(Prediction((Predictor(len(weights), 0.5, 1),)), classes)  # only the predictor's order is used
        self.weights = tuple(weights)

    def _predict(self, x: Tensor, history: Tensor, heard: Tensor, state: PredictionState) -> tuple[Tensor, list[PredictorState]]:
        past, reach, steps = torch.cat([history.flip(1), x], dim=1), history.shape[1], x.shape[1] + 1
        parts = (w * past[:, reach - k : reach - k + steps] for k, w in enumerate(self.weights, start=1))
        p = sum(parts, x.new_zeros(()))
        return p.clamp(-1, 1)[..., None], [PredictorState(state.sums[0], state.filters[0], state.failed[0])]


class PredictorsAlone(AutoregressiveNet):
    """The mixture of linear predictors as a model, exact for any chunks.

    Args:
        bits: Bits per sample, 4 to 12; q = 2^bits classes.
        filters: The adaptive predictors of a `Prediction`, with its mixture; or the filter of one fixed predictor: (1,) is the last
            sample, (2, -1) the line through the last two.

    Raises:
        ValueError: bits out of range.
    """

    def __init__(self, bits: int = 8, filters: Filters = FILTERS[PREDICTORS]) -> None:
        super().__init__(bits)
        if isinstance(filters, Prediction):
            self.prediction = LinearPrediction(filters, self.classes)
        else:
            self.prediction = FixedPrediction(filters, self.classes)

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        filters = self.prediction.weights if isinstance(self.prediction, FixedPrediction) else self.prediction.predictors
        return {"prediction": f"{self.prediction.settings} {filters}"}

    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, PredictionState]:
        """As `AutoregressiveNet.predict`; the logits are ln p."""
        assert state is None or isinstance(state, PredictionState)
        predicted, known = self.prediction(delayed, state)
        return self.prediction.log_probabilities(predicted), known

    def nats(
        self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None, heard: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        layer = self.prediction
        delayed, last, fresh = self.delay(classes if heard is None else heard, state, before)
        predicted, known = layer(delayed, state.levels if state else None)
        each = component_log_probabilities(classes.long(), predicted.p, predicted.s, layer.log_width, layer.limits, layer.settings.share)
        return -torch.logsumexp(each + predicted.log_weights, dim=-1), ModelState(last, known, after(fresh, classes))
