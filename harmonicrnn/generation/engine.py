"""The interface of engines, which draw samples one by one, and PlainEngine, which uses the model's forward pass."""

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

    period: draws of a multiple of this number of samples are fastest.
    """

    period: int

    def start(self, state: ModelState) -> None:
        """Starts from a state of B lanes of the forward pass, at any phase of the pooling windows."""

    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        """Draws the next n samples.

        Args:
            uniforms: (B, n) float64 in [0, 1), random numbers of the samples (see `choose`); on any device.
            temperature: divides the logits; 0 takes the most likely class.
            top_p: draws only from the most likely classes, up to this cumulative probability, in (0, 1].

        Returns:
            classes (B, n) int64, and -ln p(class) at temperature 1 and top_p 1, (B, n) float64; both on the CPU.
        """


def choose(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draws classes (B,) from logits (B, q) with uniform numbers in [0, 1) (B,), by inverting the cumulative distribution: the first class
    with a cumulative probability above the number. Computed in float64 on the device of the logits.

    With top_p below 1, only the smallest set of most likely classes (after the temperature) with a total probability of at least top_p
    remains; ties go to lower classes. It always holds the most likely class.
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
"""Maps a step's logits (B, q) and classes (B,) to a measure (B, ...)."""


def nats(logits: Tensor, classes: Tensor) -> Tensor:
    """Returns -ln p(class), (B,) float64."""
    return -torch.log_softmax(logits.double(), dim=-1).gather(1, classes[:, None])[:, 0]


def steps(
    net: AutoregressiveNet, state: ModelState, uniforms: Tensor, temperature: float, top_p: float, measure: Measure = nats
) -> tuple[ModelState, Tensor, Tensor]:
    """Draws as many samples as there are columns of uniforms (B, n), n >= 1, with one forward pass each. Returns the state after them,
    their classes (B, n), and their measures (B, n, ...)."""
    classes, measured, any_class = [], [], torch.zeros(len(uniforms), 1, dtype=torch.long, device=uniforms.device)
    for uniform in uniforms.unbind(1):
        # The logits do not depend on the input class, only the next state does: use any class, and correct it below.
        logits, after = net(any_class, state)
        classes.append(choose(logits[:, 0], uniform, temperature, top_p))
        measured.append(measure(logits[:, 0], classes[-1]))
        state = replace(after, last=classes[-1])
    return state, torch.stack(classes, dim=1), torch.stack(measured, dim=1)


class PlainEngine:
    """Uses the model's forward pass with carried state, one sample per call: slow, for any model and device."""

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
    """Raises UserError for MPS (Apple GPUs): it lacks float64, in which samples are drawn and likelihoods summed."""
    if str(device).partition(":")[0] == "mps":
        raise UserError(f"device {device}: has no float64, in which samples are drawn and likelihoods summed; use cpu")


def make_engine(net: AutoregressiveNet) -> Engine:
    """Returns the fastest engine: compiled code on the CPU, a CUDA graph on a GPU, else the plain engine. Falls back to the plain engine
    with a warning if a layer has no code or the logits differ from the forward pass's.

    Raises:
        UserError: the model is on a device without float64.
    """
    device = next(net.parameters()).device.type
    check_device(device)
    try:
        if device == "cpu":
            from harmonicrnn.generation.cpu import CPUEngine  # here, so that numba is imported only when used

            return CPUEngine(net)
        if device == "cuda":
            from harmonicrnn.generation.graph_engine import GraphEngine

            return GraphEngine(net)
    except EngineError as error:
        warnings.warn(f"{error}: samples are drawn by the forward pass, one a call, many times slower", stacklevel=2)
    return PlainEngine(net)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sets torch to one thread: a single step is too little work to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
