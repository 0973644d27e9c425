"""Checks an engine against the model's forward pass on a few samples before its first use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harmonicrnn.models import AutoregressiveNet, ModelState, undivided
from harmonicrnn.ops.implementation import without_compiling

LANES = 2
LEAST_STEPS = 48  # a few periods of a small model
HOT = 1e9  # a temperature at which all classes are equally likely

Weights = tuple[object, ...]
Draw = Callable[[ModelState, Tensor, float], tuple[Tensor, Tensor]]
"""Maps a state, uniform numbers (B, T) and a temperature to an engine's classes (B, T) and logits (B, T, q)."""


class EngineError(ValueError):
    """An engine cannot step a model, or its logits differ from the model's."""


_passed: WeakKeyDictionary[AutoregressiveNet, dict[str, Weights]] = WeakKeyDictionary()


def weights_of(net: AutoregressiveNet) -> Weights:
    """Returns a key that changes with the model's weights or layers."""
    weights = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in (*net.parameters(), *net.buffers()))
    return weights + tuple((type(module), vars(module).get("forward")) for module in net.modules())


def check(net: AutoregressiveNet, name: str, weights: Weights, draw: Draw, limit: float, rounded: AutoregressiveNet | None = None) -> None:
    """Compares an engine's logits with those of the forward pass; once per process for the same weights.

    Args:
        net: the model.
        name: of the engine, for messages and as a key.
        weights: of the model that the engine was made for, see `weights_of`.
        draw: the engine.
        limit: the largest allowed difference of logits, relative to the largest logit.
        rounded: the model with its weights rounded as the engine's; None if they are not.

    Raises:
        EngineError: they differ by more.
    """
    if _passed.get(net, {}).get(name) == weights:
        return
    error = difference(net if rounded is None else rounded, draw)
    if not error <= limit:
        raise EngineError(f"the logits of the {name} differ from the forward pass's by {error:.1e} of the largest; {limit:.0e} is allowed")
    _passed.setdefault(net, {})[name] = weights


@torch.inference_mode()
def difference(net: AutoregressiveNet, draw: Draw) -> float:
    """Returns the largest difference of logits, relative to the largest logit, on random classes: a quarter of a pooling period from the
    beginning, then one more than a period from there, inside a window. 0 if the model's logits are not finite. The global random state
    is unchanged."""
    period = max(LEAST_STEPS, net.pooling_product)
    parts = [period // 4 + 1, period + period // 4]
    uniforms = torch.rand(LANES, sum(parts), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    with undivided(net), evaluating(net), without_compiling():  # a first sound would wait for code that drawing never uses
        _, state = net(torch.zeros(LANES, 0, dtype=torch.long, device=next(net.parameters()).device))
        for part in uniforms.split(parts, dim=1):
            classes, logits = draw(state, part, HOT)
            expected, state = net(classes.to(state.last.device), state)
            if not expected.isfinite().all():
                return 0.0  # reported when drawing
            errors.append((logits.double().cpu() - expected.double().cpu()).abs().max() / expected.abs().max().cpu())
    return torch.stack(errors).max().item()


@contextmanager
def evaluating(net: AutoregressiveNet) -> Iterator[None]:
    """Puts the model into evaluation mode inside the context."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
