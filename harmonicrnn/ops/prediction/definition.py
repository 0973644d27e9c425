"""Reference implementation of linear prediction, in float64 for short sequences; tests compare the others with it."""

import torch
from torch import Tensor

from harmonicrnn.ops.prediction.predictor import Predictor


def autocorrelation(predictor: Predictor, past: Tensor) -> Tensor:
    """Returns r (n + 1,) of the windowed past (T,), newest last."""
    age = torch.arange(len(past) - 1, -1, -1, dtype=torch.float64)
    seen = torch.cat([past.new_zeros(predictor.order), (age + 1) * predictor.decay**age * past])
    return torch.stack([seen[predictor.order :] @ seen[predictor.order - k : len(seen) - k] for k in range(predictor.order + 1)])


def solve(predictor: Predictor, r: Tensor) -> Tensor:
    """Returns the filter (n,) by a dense solve."""
    index = torch.arange(predictor.order)
    matrix = r[(index[:, None] - index).abs()]
    matrix += torch.eye(predictor.order, dtype=torch.float64) * (r[0] * predictor.white + predictor.floor)
    return torch.linalg.solve(matrix, r[1:])


def predict(predictor: Predictor, x: Tensor) -> Tensor:
    """Returns the predictions p (T + 1,) of a whole sequence x (T,): p[t] predicts x[t], and p[T] the next sample."""
    weights, found = torch.zeros(predictor.order, dtype=torch.float64), [torch.zeros((), dtype=torch.float64)]
    padded = torch.cat([x.new_zeros(predictor.order), x])
    for heard in range(1, len(x) + 1):
        if predictor.is_due(heard):
            weights = solve(predictor, autocorrelation(predictor, x[:heard]))
        found.append((weights @ padded[heard : heard + predictor.order].flip(0)).clamp(-1, 1))
    return torch.stack(found)
