"""Drawing samples one after the other: what every engine does, and the plain one over the model's own forward pass."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.generation.self_check import EngineError
from harmonicrnn.models import AutoregressiveNet, ModelState, undivided

NOT_STARTED = "an engine draws only after it was given a state to start from"


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


Measure = Callable[[Tensor, Tensor], Tensor]
"""Of a step's logits (B, q) and classes (B,), what is told of it, (B, ...)."""


def nats(logits: Tensor, classes: Tensor) -> Tensor:
    """-ln p(class), (B,) float64."""
    return -torch.log_softmax(logits.double(), dim=-1).gather(1, classes[:, None])[:, 0]


def steps(
    net: AutoregressiveNet, state: ModelState, uniforms: Tensor, temperature: float, top_p: float, measure: Measure = nats
) -> tuple[ModelState, Tensor, Tensor]:
    """As many samples as there are columns of uniforms (B, n), one at least, by the forward pass, one a call: the state after them, their
    classes (B, n), and what is measured of them (B, n, ...)."""
    classes, measured, any_class = [], [], torch.zeros(len(uniforms), 1, dtype=torch.long, device=uniforms.device)
    for uniform in uniforms.unbind(1):
        # The logits do not depend on the sample they are of, only the state after it does: any class serves, and is then put right.
        logits, after = net(any_class, state)
        classes.append(choose(logits[:, 0], uniform, temperature, top_p))
        measured.append(measure(logits[:, 0], classes[-1]))
        state = replace(after, last=classes[-1])
    return state, torch.stack(classes, dim=1), torch.stack(measured, dim=1)


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
        if self._state is None:
            raise RuntimeError(NOT_STARTED)
        if not uniforms.shape[1]:
            return torch.empty(uniforms.shape, dtype=torch.long), torch.empty(uniforms.shape, dtype=torch.float64)
        with undivided(self.net), _one_thread():
            uniforms = uniforms.to(self._state.last.device)
            self._state, classes, found = steps(self.net, self._state, uniforms, temperature, top_p)
            return classes.cpu(), found.cpu()


def check_device(device: torch.device | str) -> None:
    """Raises UserError for MPS, the GPU of Apple's machines: it has no float64, in which samples are drawn and likelihoods summed."""
    if str(device).partition(":")[0] == "mps":
        raise UserError(f"device {device}: has no float64, in which samples are drawn and likelihoods summed; use cpu")


def make_engine(net: AutoregressiveNet) -> Engine:
    """Compiled code for models on the CPU, a graph on a GPU; the plain engine elsewhere, and with a warning where those have no code for a
    layer or do not give what the model's forward pass gives.

    Raises:
        UserError: the model is on a device without float64.
    """
    device = next(net.parameters()).device.type
    check_device(device)
    try:
        if device == "cpu":
            from harmonicrnn.generation.cpu import CPUEngine  # here, so that numba is loaded only where it computes

            return CPUEngine(net)
        if device == "cuda":
            from harmonicrnn.generation.graph_engine import GraphEngine

            return GraphEngine(net)
    except EngineError as error:
        warnings.warn(f"{error}: samples are drawn by the forward pass, one a call, many times slower", stacklevel=2)
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
