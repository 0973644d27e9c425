"""Rows of `benchmarks.gpu`: what surrounds the recurrence, as the model calls it and as torch.compile makes it of ordinary operations."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_timing import check, copy_bandwidth, row, seconds_of
from harmonicrnn.models import sample_nats
from harmonicrnn.ops import Implementation, causal_convolution, gated_gelu, gated_mlp, residual_norm

LIMITS = (1e-2, 2e-2)  # outputs and gradients in bfloat16, of which torch's own operations round each intermediate
WIDTH, EXPANSION, TAPS, CLASSES = 128, 3, 4, 256


@dataclass(frozen=True)
class Neighbour:
    """One of them: a function of tensors, to one or several, as the model calls it, the same in ordinary operations, its inputs for so many
    steps, and the operations of its products for each step, forward."""

    name: str
    used: Callable[..., Any]
    plain: Callable[..., Any]
    inputs: Callable[[int, torch.device], tuple[Tensor, ...]]
    operations: int = 0


def numbers(*shape: int, device: torch.device) -> Tensor:
    return torch.randn(*shape, device=device, dtype=torch.bfloat16)


def classes(time: int, device: torch.device) -> Tensor:
    return torch.randint(CLASSES, (1, time), device=device)


def norm(x: Tensor, delta: Tensor, weight: Tensor, implementation: Implementation = "auto") -> tuple[Tensor, Tensor]:
    layer = nn.RMSNorm(x.shape[-1], eps=1e-6)
    del layer.weight
    layer.weight = weight  # type: ignore[assignment]
    return residual_norm(x, delta, layer, implementation)


def mlp(x: Tensor, *weights: Tensor, implementation: Implementation = "auto") -> Tensor:
    """`gated_mlp` of weight and bias of each layer in turn."""
    layers = [linear_of(*each) for each in zip(weights[::2], weights[1::2], strict=True)]
    return gated_mlp(x, *layers, implementation=implementation)


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer with these very tensors, which need not be leaves."""
    layer = nn.Linear(1, 1)
    del layer.weight, layer.bias
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return layer


def mlp_inputs(time: int, device: torch.device) -> tuple[Tensor, ...]:
    hidden, tensors = EXPANSION * WIDTH, [numbers(1, time, WIDTH, device=device)]
    for outputs, inputs in ((hidden, WIDTH), (hidden, WIDTH), (WIDTH, hidden)):
        tensors += [numbers(outputs, inputs, device=device) / inputs**0.5, numbers(outputs, device=device)]
    return tuple(tensors)


def plain_nats(logits: Tensor, given: Tensor) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide.flatten(0, 1), given.flatten(), reduction="none").view_as(given)


NEIGHBOURS = (
    Neighbour(
        "gated GELU",
        gated_gelu,
        partial(gated_gelu, implementation="reference"),
        lambda time, device: tuple(numbers(1, time, EXPANSION * WIDTH, device=device) for _ in range(2)),
    ),
    Neighbour("gated MLP", mlp, partial(mlp, implementation="reference"), mlp_inputs, operations=6 * EXPANSION * WIDTH**2),
    Neighbour(
        "causal convolution",
        causal_convolution,
        partial(causal_convolution, implementation="reference"),
        lambda time, device: (
            *(numbers(1, steps, WIDTH, device=device) for steps in (time, TAPS - 1)),
            *(torch.randn(*shape, device=device) for shape in ((TAPS, WIDTH), (WIDTH,))),
        ),
    ),
    Neighbour(
        "sum and RMSNorm",
        norm,
        partial(norm, implementation="reference"),
        lambda time, device: tuple(numbers(*shape, device=device) for shape in ((1, time, WIDTH), (1, time, WIDTH), (WIDTH,))),
    ),
    Neighbour(
        "embedding of 256 values",
        F.embedding,
        F.embedding,
        lambda time, device: (classes(time, device), numbers(CLASSES, WIDTH, device=device)),
    ),
    Neighbour(
        "cross entropy over 256 classes",
        sample_nats,
        plain_nats,
        lambda time, device: (numbers(1, time, CLASSES, device=device), classes(time, device)),
    ),
)


def neighbour_rows(neighbour: Neighbour, time: int, device: torch.device, repeats: int) -> Iterator[str]:
    """Forward and forward + backward in bfloat16, in bytes needed against the copy of as many; both are held against float64 first."""
    torch.manual_seed(0)
    inputs = tuple(t.requires_grad_() if t.is_floating_point() else t for t in neighbour.inputs(time, device))
    wide = tuple(t.detach().double().requires_grad_() if t.is_floating_point() else t for t in inputs)
    y = outputs(neighbour.plain(*wide))
    weights = tuple(torch.randn_like(t).bfloat16() for t in y)
    expected = (*y, *gradients(y, wide, weights))
    compiled = torch.compile(neighbour.plain) if device.type == "cuda" else neighbour.plain
    ways = {"as the model has it": neighbour.used, "torch.compile": compiled}
    for way, function in ways.items():
        y = outputs(function(*inputs))
        found = [t.double() for t in (*y, *gradients(y, inputs, weights))]
        check(f"{neighbour.name}, {way}", found, expected, [LIMITS[i >= len(y)] for i in range(len(found))])
    del y, found, expected, wide

    with torch.no_grad():
        written = sum(t.nbytes for t in outputs(neighbour.used(*inputs)))
    given = sum(t.nbytes for t in inputs)
    size = given + written + given + written + sum(t.nbytes for t in inputs if t.is_floating_point())
    copy = copy_bandwidth(device, size // 2, repeats)
    for way, function in ways.items():

        def both(function: Callable[..., Any] = function) -> None:
            gradients(outputs(function(*inputs)), inputs, weights)

        with torch.no_grad():
            forward = seconds_of(partial(function, *inputs), device, repeats)
        for what, seconds, needed in (("forward", forward, given + written), ("both ways", seconds_of(both, device, repeats), size)):
            rate = needed / statistics.median(seconds)
            notes = [f"{rate / 1e9:,.0f} GB/s of needed bytes, {rate / copy:.1%} of the copy"]
            if neighbour.operations:
                operations = neighbour.operations * time * (1 if what == "forward" else 3)
                notes.append(f"{operations / statistics.median(seconds) / 1e12:,.1f} TFLOP/s of needed products")
            yield row(f"{neighbour.name}, {way}, {what}", seconds, *notes)


def outputs(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def gradients(results: tuple[Tensor, ...], inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weights = tuple(w.to(t.dtype) for w, t in zip(weights, results, strict=True))
    return torch.autograd.grad(results, [t for t in inputs if t.requires_grad], weights)
