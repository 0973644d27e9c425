"""Compiles a model's modules to one worker's program: the operations of a step in order."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from harmonicrnn.generation.cpu.addresses import Room
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.generation.self_check import EngineError
from harmonicrnn.models import AutoregressiveNet


class UnknownLayerError(EngineError):
    """A model has a layer without compiled code."""


class Level(NamedTuple):
    """The residual path of a level, and its flags of lanes that have not begun (fresh)."""

    width: int
    x: Room
    fresh: Room


class Program:
    """One worker's operations for a step of all lanes.

    Args:
        net: a private copy of the model on the CPU: norms are folded into the layers after them, and weights rounded, in place.
        share: the worker's share.
        known: compile function of each kind of module: `compile(program, module, level, find)` adds its operations, and returns what the
            enclosing layer needs.

    Raises:
        UnknownLayerError: a kind of layer is not in `known`.
    """

    def __init__(self, net: AutoregressiveNet, share: Share, known: Mapping[type[nn.Module], Callable[..., Any]]) -> None:
        self.share, self.operations, self._known, self._root = share, list[Operation](), known, id(net)
        self._seen: set[int] = set()
        self._names = {id(module): name for name, module in net.named_modules()}
        # Buffers between operations: the normed input, its products, and the layer's results.
        self.normed, self.products, self.mixed, self.gates = (share.room() for _ in range(4))
        self.compile(net, self.level(0), lambda state: state.levels)
        share.products.lay_out()

    def level(self, width: int) -> Level:
        return Level(width, self.share.room(width), self.share.room(1))

    def add(self, *operations: Operation) -> None:
        self.operations += operations

    def compile(self, module: nn.Module, level: Level, find: Find) -> Any:
        """Adds the operations of a module in a level; `find` returns its state. A model may be a subclass of a known class; a layer may
        not, since its subclass could change the computation."""
        kind = next((kind for kind in self._known if id(module) == self._root and isinstance(module, kind)), type(module))
        if kind not in self._known:
            raise self._unknown(module)
        return self._known[kind](self, module, level, find)

    def expect(self, kinds: tuple[type[nn.Module], ...], *modules: nn.Module | None) -> None:
        """Raises UnknownLayerError for submodules of other kinds, without a bias or used twice; None is allowed."""
        for module in filter(None, modules):
            if type(module) not in kinds or id(module) in self._seen or getattr(module, "bias", 0) is None:
                raise self._unknown(module)
            self._seen.add(id(module))

    def _unknown(self, module: nn.Module) -> UnknownLayerError:
        type_name, name = type(module).__name__, self._names.get(id(module))
        return UnknownLayerError(f"there is no compiled code for {f'{name} ({type_name})' if name else type_name}")
