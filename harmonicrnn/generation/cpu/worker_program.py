"""From a model's modules to one worker's program: the operations of every layer in the order of a step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from harmonicrnn.generation.cpu.addresses import Room
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.generation.self_check import EngineError
from harmonicrnn.models import AutoregressiveNet


class UnknownLayerError(EngineError):
    """A model has a layer that there is no compiled code for."""


class Level(NamedTuple):
    """The residual path of a level, and which lanes have not begun there."""

    width: int
    x: Room
    fresh: Room


class Program:
    """One worker's operations for a step of all lanes.

    Args:
        net: the model, on the CPU and this program's own: norms are folded into the layers behind them, and weights rounded, in place.
        share: whose program it is.
        known: how a module of each kind is compiled: `compile(program, module, level, find)` adds its operations, and returns what the
            layer around it asks for.

    Raises:
        UnknownLayerError: a layer that is not known, by its name.
    """

    def __init__(self, net: AutoregressiveNet, share: Share, known: Mapping[type[nn.Module], Callable[..., Any]]) -> None:
        self.share, self.operations, self._known, self._root = share, list[Operation](), known, id(net)
        self._seen: set[int] = set()
        self._names = {id(module): name for name, module in net.named_modules()}
        # What operations hand on to one another: the normed input, its products, and what a layer makes of them.
        self.normed, self.products, self.mixed, self.gates = (share.room() for _ in range(4))
        self.compile(net, self.level(0), lambda state: state.levels)
        share.products.lay_out()

    def level(self, width: int) -> Level:
        return Level(width, self.share.room(width), self.share.room(1))

    def add(self, *operations: Operation) -> None:
        self.operations += operations

    def compile(self, module: nn.Module, level: Level, find: Find) -> Any:
        """Add the operations of a module in a level, the state of which is where `find` says. A model may be of a class derived from one
        that is known, a layer may not: what its class changes is not known."""
        kind = next((kind for kind in self._known if id(module) == self._root and isinstance(module, kind)), type(module))
        if kind not in self._known:
            raise self._unknown(module)
        return self._known[kind](self, module, level, find)

    def expect(self, kinds: tuple[type[nn.Module], ...], *modules: nn.Module | None) -> None:
        """Refuse modules, parts of one that is compiled, that are of other kinds, lack a bias or were seen before; None is let through."""
        for module in filter(None, modules):
            if type(module) not in kinds or id(module) in self._seen or getattr(module, "bias", 0) is None:
                raise self._unknown(module)
            self._seen.add(id(module))

    def _unknown(self, module: nn.Module) -> UnknownLayerError:
        type_name, name = type(module).__name__, self._names.get(id(module))
        return UnknownLayerError(f"there is no compiled code for {f'{name} ({type_name})' if name else type_name}")
