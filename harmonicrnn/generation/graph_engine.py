"""Steps a model a pooling period at a time: the model's own forward pass as one CUDA graph, in which nothing waits for Python."""

import torch
from torch import Tensor

from harmonicrnn.generation.engine import NOT_STARTED, Measure, nats, steps
from harmonicrnn.generation.self_check import EngineError, check, weights_of
from harmonicrnn.models import AutoregressiveNet, LinearPrediction, ModelState, undivided
from harmonicrnn.models.skip_block import SkipState


class GraphEngine:
    """An `Engine` for models on a GPU, made for many lanes; elsewhere the same steps run one by one, which serves tests.

    Draws of whole periods are fast: what is left of a draw runs step by step.

    Raises:
        EngineError: a model with linear prediction, which waits for Python; or logits that differ from the forward pass's.
    """

    def __init__(self, net: AutoregressiveNet) -> None:
        if any(isinstance(module, LinearPrediction) for module in net.modules()):
            raise EngineError("the graph engine has no steps for linear prediction")
        self.net, self.period = net, net.pooling_product
        self._state: ModelState | None = None
        self._graph: _Period | None = None
        weight = next(net.parameters())
        highest = torch.get_float32_matmul_precision() == "highest"
        exact = weight.dtype == torch.float64 or (weight.dtype == torch.float32 and highest)
        check(net, "graph engine", weights_of(net), self._draw_from, 1e-5 if exact else 3e-2)
        self._state = self._graph = None

    def start(self, state: ModelState) -> None:
        self._state = state

    @torch.inference_mode()
    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        if not uniforms.shape[1]:
            return torch.empty(uniforms.shape, dtype=torch.long), torch.empty(uniforms.shape, dtype=torch.float64)
        classes, found = self._draw(uniforms, temperature, top_p, nats)
        return classes.cpu(), found.cpu()

    def _draw_from(self, state: ModelState, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        self.start(state)
        return self._draw(uniforms, temperature, 1.0, _logits)

    def _draw(self, uniforms: Tensor, temperature: float, top_p: float, measure: Measure) -> tuple[Tensor, Tensor]:
        """Classes (B, n), and what is measured of them (B, n, ...)."""
        state = self._state
        if state is None:
            raise RuntimeError(NOT_STARTED)
        how = temperature, top_p, measure
        uniforms = uniforms.to(state.last.device, torch.float64)
        whole = uniforms.shape[1] // self.period * self.period
        drawn = []
        with undivided(self.net):
            if whole:
                if self._graph is None or not self._graph.fits(state, how):
                    self._graph = _Period(self.net, state, how)
                self._graph.load(state)
                drawn = [self._graph.run(piece) for piece in uniforms[:, :whole].split(self.period, dim=1)]
                state = self._graph.state()
            if whole < uniforms.shape[1]:
                state, *rest = steps(self.net, state, uniforms[:, whole:], *how)
                drawn.append((rest[0], rest[1]))
        self._state = state
        classes, measured = (torch.cat(pieces, dim=1) for pieces in zip(*drawn, strict=True))
        return classes, measured


def _logits(logits: Tensor, classes: Tensor) -> Tensor:
    return logits


class _Period:
    """A period of steps from and to a state in buffers of its own, at whatever phase of the pooling windows it begins."""

    def __init__(self, net: AutoregressiveNet, state: ModelState, how: tuple[float, float, Measure]) -> None:
        self._state, self._how = state.map(torch.clone), how
        self._net = net
        self._uniforms = torch.zeros(len(state.last), net.pooling_product, dtype=torch.float64, device=state.last.device)
        self._drawn = self._uniforms.new_empty(0), self._uniforms.new_empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None
        if state.last.device.type == "cuda":
            self._capture()

    def fits(self, state: ModelState, how: tuple[float, float, Measure]) -> bool:
        """Whether it can go on from such a state, drawing so."""
        same = len(state.last) == len(self._state.last) and phases(state) == phases(self._state)
        return same and how == self._how

    def load(self, state: ModelState) -> None:
        _copy(state, self._state)

    def state(self) -> ModelState:
        """A copy of what the next period would begin with."""
        return self._state.map(torch.clone)

    def run(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """The classes of a period (B, period), and what is measured of them (B, period, ...)."""
        self._uniforms.copy_(uniforms)
        if self._graph is None:
            self._advance()
        else:
            self._graph.replay()
        classes, measured = self._drawn
        return classes.clone(), measured.clone()

    def _advance(self) -> None:
        state, *drawn = steps(self._net, self._state, self._uniforms, *self._how)
        self._drawn = drawn[0], drawn[1]
        # Where a window is longer than what was added to it, a buffer would be written before it is read.
        _copy(state.map(torch.clone), self._state)

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


def phases(state: ModelState) -> list[int]:
    """Steps into the open pooling window of each level, the outermost first."""
    found, level = [], state.levels
    while isinstance(level, SkipState):
        found.append(level.phase)
        level = level.inner
    return found


def _copy(state: ModelState, to: ModelState) -> None:
    sources: list[Tensor] = []
    state.map(lambda tensor: sources.append(tensor) or tensor)  # type: ignore[func-returns-value]
    remaining = iter(sources)
    to.map(lambda tensor: tensor.copy_(next(remaining)))
