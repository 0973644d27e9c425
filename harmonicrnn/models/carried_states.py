"""States that lanes carry from one batch to the next: truncated back-propagation with an exact forward state."""

from collections.abc import Callable

import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.models.autoregressive_net import AutoregressiveNet, ModelState
from harmonicrnn.models.mixing import undivided
from harmonicrnn.ops import Slices


class CarriedStates:
    """The state after the last batch of each stream of batches ("train", "evaluation"), detached.

    Lanes are cut off from the graph between batches, and begin anew where a batch says that they have no context.
    """

    def __init__(self) -> None:
        self._states: dict[str, ModelState] = {}
        self._saved: list[Tensor] = []
        self._rank = 0

    def take(self, stream: str, context: Tensor, net: AutoregressiveNet) -> ModelState | None:
        """The state that a batch begins with, given how much its lanes (B,) have seen before; None where all begin anew.

        Raises:
            UserError: lanes are to go on, but where they stopped is not known.
        """
        state = self._states.get(stream)
        if state is None and stream == "train" and self._saved:
            state = self._states[stream] = self._rebuilt(net, context)
        if state is not None:
            return state.reset(context == 0)
        if context.any():
            raise UserError("the checkpoint holds no states of recordings that were under way; start anew from it with --model.init_from")
        return None

    def put(self, stream: str, state: ModelState, group: Slices | None = None) -> None:
        """Keep the state after a batch; of a context group that after its last slice, which the next batch's first begins with."""
        state = state.detach()
        if group is not None:
            last = iter(group.from_last(_tensors(state)))
            state = state.map(lambda _: next(last))
        self._states[stream] = state

    def begin_anew(self, stream: str) -> None:
        """Make all lanes of a stream fresh: their recordings go on without what was before."""
        if (state := self._states.get(stream)) is not None:
            self._states[stream] = state.reset(torch.ones_like(state.fresh))

    def to_save(self, gather: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The training lanes' states, all lanes one after the other; `gather` stacks a tensor (B, ...) of all data ranks."""
        tensors = _tensors(self._states["train"]) if "train" in self._states else []
        return [gather(tensor).flatten(0, 1).cpu() for tensor in tensors]

    def restore(self, saved: list[Tensor], rank: int) -> None:
        """What `to_save` gave, to this rank, which may now have another number of lanes; nothing else is kept."""
        self._states.clear()
        self._saved, self._rank = saved, rank

    def _rebuilt(self, net: AutoregressiveNet, context: Tensor) -> ModelState:
        lanes = len(context)
        mine = iter(tensor[self._rank * lanes : (self._rank + 1) * lanes].to(context.device) for tensor in self._saved)
        # At a chunk's border every pooling window is closed, as it is in a state that has seen nothing.
        with torch.no_grad(), undivided(net):
            _, template = net(torch.zeros(lanes, 0, dtype=torch.long, device=context.device))
        return template.map(lambda _: next(mine))


def _tensors(state: ModelState) -> list[Tensor]:
    tensors: list[Tensor] = []
    state.map(lambda tensor: tensors.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return tensors
