"""Drawing samples one after the other: what every engine does, and the plain one over the model's own forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from harmonicrnn.models import AutoregressiveNet, HarmonicRNN, ModelState, undivided


class Engine(Protocol):
    """Steps a model one sample at a time, for B clips at once.

    period: draws of a multiple of so many samples are the fastest.
    """

    period: int

    def start(self, state: ModelState) -> None:
        """Take up a state of B lanes as the forward pass gives it, at any phase of the pooling windows."""

    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        """The next n samples.

        Args:
            uniforms: (B, n) float64 in [0, 1), what each sample is drawn with (see `choose`); on any device.
            temperature: divides the logits; 0 takes the most likely class.
            top_p: draws only among the most likely classes that hold this much of the probability, in (0, 1].

        Returns:
            classes (B, n) int64, and -ln p(class) at temperature 1 and top_p 1, (B, n) float64; both on the CPU.
        """


def choose(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """Classes (B,) drawn with numbers uniform in [0, 1) (B,) from logits (B, q), by inverting the distribution function: of the
    classes in order, the first whose cumulative probability exceeds the number. Work is done in float64, on the device of the logits.

    With top_p below 1 only the smallest set of most likely classes (after the temperature) remains whose probability reaches top_p; of
    equally likely ones those of lower number come first. The most likely class is always one of them.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        falling, classes = probabilities.sort(dim=-1, descending=True, stable=True)
        surplus = falling.cumsum(dim=-1) - falling >= top_p
        probabilities = probabilities.masked_fill(surplus.scatter(-1, classes, surplus), 0)
    cumulative = probabilities.cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1)


def knows_layers(net: AutoregressiveNet) -> TypeGuard[HarmonicRNN]:
    """Whether the engines that have code of their own for each layer have it for this model's."""
    return isinstance(net, HarmonicRNN) and net.parts.recurrence in ("complex", "real", "none")


class PlainEngine:
    """The model's ordinary forward pass with carried state, one sample a call: slow, for any model and device."""

    period = 1

    def __init__(self, net: AutoregressiveNet) -> None:
        self.net = net
        self._state: ModelState | None = None

    def start(self, state: ModelState) -> None:
        self._state = state

    @torch.inference_mode()
    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        state = self._state
        if state is None:
            raise RuntimeError("an engine draws only after it was given a state to start from")
        uniforms = uniforms.to(state.last.device)
        drawn = torch.empty(uniforms.shape, dtype=torch.long, device=uniforms.device)
        nats = torch.empty(uniforms.shape, dtype=torch.float64, device=uniforms.device)
        any_class = torch.zeros(len(uniforms), 1, dtype=torch.long, device=uniforms.device)
        with undivided(self.net), _one_thread():
            for t in range(uniforms.shape[1]):
                # The logits do not depend on the sample they are of, only the state after it does: any class serves, and is then put right.
                logits, after = self.net(any_class, state)
                classes = choose(logits[:, 0], uniforms[:, t], temperature, top_p)
                nats[:, t] = -torch.log_softmax(logits[:, 0].double(), dim=-1).gather(1, classes[:, None])[:, 0]
                drawn[:, t], state = classes, replace(after, last=classes)
        self._state = state
        return drawn.cpu(), nats.cpu()


def make_engine(net: AutoregressiveNet) -> Engine:
    """Compiled code for models on the CPU, graphs on a GPU, the plain one elsewhere and for models whose layers those do not know."""
    device = next(net.parameters()).device.type
    if not knows_layers(net):
        return PlainEngine(net)
    if device == "cpu":
        from harmonicrnn.generation.cpu import CPUEngine  # here, so that numba is loaded only where it computes

        return CPUEngine(net)
    if device == "cuda":
        from harmonicrnn.generation.graph_engine import GraphEngine

        return GraphEngine(net)
    return PlainEngine(net)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A single step is too little work to share: waiting for one another costs threads more than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
