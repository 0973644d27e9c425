"""PredictionGate, a layer: how probable the network holds what linear predictors hold impossible, such as the beginning of a note."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.models.prediction import LinearPrediction, Predicted

HIDDEN = 128

BOUND, UNIT = 12.0, 2.0
"""Bound of the numbers from the predictors, and what they are divided by."""


class PredictionGate(nn.Module):
    """Corrects the log odds of what the predictors hold impossible, from the network's state and the predictors' errors.

        o' = log(exp(o + w . relu(A y + B n + b) + c) + kept exp(o))     n = (log s, asinh of the last error in units of s, log weights, o)

    A network that is trained without predictors spreads its probability: of what they hold impossible it expects many times too much, and
    at all times alike. At the start w and c are zero. n is bounded.

    Args:
        width: D, of the network's state.
        prediction: the predictors.
    """

    def __init__(self, width: int, prediction: LinearPrediction) -> None:
        super().__init__()
        self.kept = prediction.settings.kept
        self.state = nn.Linear(width, HIDDEN)
        self.errors = nn.Linear(2 * len(prediction.predictors) + prediction.log_width.numel() + 1, HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, y: Tensor, predicted: Predicted, own: Tensor) -> Tensor:
        """Returns o' (B, T) of the network's state y (B, T, D), the predictions, and o, its own log odds (B, T)."""
        numbers = torch.cat([predicted.s.log(), predicted.missed.asinh(), predicted.log_weights, own.double()[..., None]], dim=-1)
        inner = self.state(y) + self.errors((numbers.clamp(-BOUND, BOUND) / UNIT).to(y.dtype))
        odds = own + self.out(F.relu(inner))[..., 0]
        return odds if self.kept == 0 else torch.logaddexp(odds, own + math.log(self.kept))
