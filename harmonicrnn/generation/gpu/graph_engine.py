"""Steps a model a pooling period at a time: as one CUDA graph on a GPU, in which nothing waits for Python."""

import torch
from torch import Tensor

from harmonicrnn.generation.engine import choose
from harmonicrnn.generation.gpu.step import Level, Step
from harmonicrnn.models import HarmonicRNN, ModelState


class GraphEngine:
    """An `Engine` for models on a GPU, made for many lanes; elsewhere the same steps run one by one, which serves tests.

    Draws of whole periods are fast: what is left of a draw runs step by step. It keeps its own copy of the weights: changes of the model
    after it is made are not seen.
    """

    @torch.inference_mode()
    def __init__(self, net: HarmonicRNN) -> None:
        self.period = net.pooling_product
        self._zero_level = net.classes // 2
        self._step = Step(net)
        self._state: tuple[Tensor, Level] | None = None
        self._graph: _Period | None = None

    @torch.inference_mode()
    def start(self, state: ModelState) -> None:
        last = torch.where(state.fresh, self._zero_level, state.last)
        self._state = last, Level.of(state.levels)  # type: ignore[arg-type]

    @torch.inference_mode()
    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        if self._state is None:
            raise RuntimeError("an engine draws only after it was given a state to start from")
        last, state = self._state
        uniforms = uniforms.to(last.device, torch.float64)
        whole = uniforms.shape[1] // self.period * self.period
        drawn = []
        if whole:
            if self._graph is None or not self._graph.fits(last, state, temperature, top_p):
                self._graph = _Period(self._step, self.period, last, state, temperature, top_p)
            self._graph.load(last, state)
            drawn = [self._graph.run(piece) for piece in uniforms[:, :whole].split(self.period, dim=1)]
            last, state = self._graph.state()
        if whole < uniforms.shape[1]:
            last, state, *rest = _steps(self._step, last, state, uniforms[:, whole:], temperature, top_p)
            drawn.append(tuple(rest))
        self._state = last, state
        if not drawn:
            return torch.empty(len(last), 0, dtype=torch.long), torch.empty(len(last), 0, dtype=torch.float64)
        classes, nats = (torch.cat(pieces, dim=1).cpu() for pieces in zip(*drawn, strict=True))
        return classes, nats


def _steps(
    step: Step, last: Tensor, state: Level, uniforms: Tensor, temperature: float, top_p: float
) -> tuple[Tensor, Level, Tensor, Tensor]:
    """As many steps as there are columns of uniforms (B, n): the last classes (B,), the state, all classes and nats (B, n)."""
    classes, nats = [], []
    for uniform in uniforms.unbind(1):
        logits, state = step(last, state)
        last = choose(logits, uniform, temperature, top_p)
        classes.append(last)
        nats.append(-torch.log_softmax(logits.double(), dim=-1).gather(1, last[:, None])[:, 0])
    return last, state, torch.stack(classes, dim=1), torch.stack(nats, dim=1)


class _Period:
    """A period of steps from and to a state in buffers of its own, at whatever phase of the pooling windows it begins."""

    def __init__(self, step: Step, period: int, last: Tensor, state: Level, temperature: float, top_p: float) -> None:
        self._last, self._state = last.clone(), state.map(torch.clone)
        self._uniforms = torch.zeros(len(last), period, dtype=torch.float64, device=last.device)
        self._how = step, temperature, top_p
        self._drawn = self._uniforms.new_empty(0), self._uniforms.new_empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None
        if last.device.type == "cuda":
            self._capture()

    def fits(self, last: Tensor, state: Level, temperature: float, top_p: float) -> bool:
        """Whether it can go on from such a state, drawing so."""
        return (len(last), state.phases, temperature, top_p) == (len(self._last), self._state.phases, *self._how[1:])

    def load(self, last: Tensor, state: Level) -> None:
        _copy(last, state, self._last, self._state)

    def state(self) -> tuple[Tensor, Level]:
        """A copy of what the next period would begin with."""
        return self._last.clone(), self._state.map(torch.clone)

    def run(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """The classes and nats of a period, (B, period) each."""
        self._uniforms.copy_(uniforms)
        if self._graph is None:
            self._advance()
        else:
            self._graph.replay()
        classes, nats = self._drawn
        return classes.clone(), nats.clone()

    def _advance(self) -> None:
        step, temperature, top_p = self._how
        last, state, *drawn = _steps(step, self._last, self._state, self._uniforms, temperature, top_p)
        self._drawn = drawn[0], drawn[1]
        # Where a window is longer than what was added to it, a buffer would be written before it is read.
        _copy(last, state.map(torch.clone), self._last, self._state)

    def _capture(self) -> None:
        # Compiles and allocates what the steps need, which no graph can hold; the buffers still hold the state then, as `load` follows.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._advance()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._advance()


def _copy(last: Tensor, state: Level, to_last: Tensor, to_state: Level) -> None:
    to_last.copy_(last)
    sources: list[Tensor] = []
    state.map(lambda tensor: sources.append(tensor) or tensor)  # type: ignore[func-returns-value]
    remaining = iter(sources)
    to_state.map(lambda tensor: tensor.copy_(next(remaining)))
