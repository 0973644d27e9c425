"""GraphEngine, which steps a model by whole pooling periods: the forward pass captured as one CUDA graph."""

import torch
from torch import Tensor

from harmonicrnn.generation.engine import NOT_STARTED, Measure, nats, steps
from harmonicrnn.generation.self_check import EngineError, check, weights_of
from harmonicrnn.models import AutoregressiveNet, LinearPrediction, ModelState, undivided
from harmonicrnn.models.skip_block import SkipState


class GraphEngine:
    """An `Engine` for models on a GPU, made for many lanes; on other devices the same steps run one by one, for tests.

    Draws of whole periods are fast: the rest of a draw runs step by step.

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
        """Draws classes (B, n) and their measures (B, n, ...)."""
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
    """A period of steps on a state in its own buffers, starting at any phase of the pooling windows."""

    def __init__(self, net: AutoregressiveNet, state: ModelState, how: tuple[float, float, Measure]) -> None:
        self._state, self._how = state.map(torch.clone), how
        self._net = net
        self._uniforms = torch.zeros(len(state.last), net.pooling_product, dtype=torch.float64, device=state.last.device)
        self._drawn = self._uniforms.new_empty(0), self._uniforms.new_empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None
        if state.last.device.type == "cuda":
            self._capture()

    def fits(self, state: ModelState, how: tuple[float, float, Measure]) -> bool:
        """Returns whether it can continue from a state with these settings."""
        same = len(state.last) == len(self._state.last) and phases(state) == phases(self._state)
        return same and how == self._how

    def load(self, state: ModelState) -> None:
        _copy(state, self._state)

    def state(self) -> ModelState:
        """Returns a copy of the current state."""
        return self._state.map(torch.clone)

    def run(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Draws the classes of a period (B, period) and their measures (B, period, ...)."""
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
        # Cloned, since a window longer than its new part would be overwritten before it is read.
        _copy(state.map(torch.clone), self._state)

    def _capture(self) -> None:
        # A warm-up compiles and allocates outside the graph; `load` restores the state afterwards.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._advance()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._advance()


def phases(state: ModelState) -> list[int]:
    """Returns the position in the open pooling window of each level, outermost first."""
    found, level = [], state.levels
    while isinstance(level, SkipState):
        found.append(level.phase)
        level = level.inner
    return found


def _copy(state: ModelState, to: ModelState) -> None:
    for source, target in zip(state.tensors(), to.tensors(), strict=True):
        target.copy_(source)
