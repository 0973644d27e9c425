"""Carries the lanes' states from batch to batch: truncated back-propagation with an exact forward state."""

from collections.abc import Callable

import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.models.autoregressive_net import AutoregressiveNet, ModelState
from harmonicrnn.models.mixing import undivided
from harmonicrnn.ops import Slices


class CarriedStates:
    """The state after the last batch of each stream of batches ("train", "evaluation"), detached.

    States are detached between batches, and reset for lanes whose batch has no context.
    """

    def __init__(self) -> None:
        self._states: dict[str, ModelState] = {}
        self._saved: list[Tensor] = []
        self._rank = 0

    def take(self, stream: str, context: Tensor, net: AutoregressiveNet) -> ModelState | None:
        """Returns the initial state of a batch, given the samples its lanes (B,) have seen before; None if all begin anew.

        Raises:
            UserError: lanes should continue, but their state is not known.
        """
        state = self._states.get(stream)
        if state is None and stream == "train" and self._saved:
            state = self._states[stream] = self._rebuilt(net, context)
        if state is not None:
            return state.reset(context == 0)
        if context.any():
            raise UserError("the checkpoint holds no states of unfinished recordings; start anew from it with --model.init_from")
        return None

    def put(self, stream: str, state: ModelState, group: Slices | None = None) -> None:
        """Stores the state after a batch; in a context group the state after the last slice."""
        state = state.detach()
        if group is not None:
            last = iter(group.from_last(state.tensors()))
            state = state.map(lambda _: next(last))
        self._states[stream] = state

    def begin_anew(self, stream: str) -> None:
        """Makes all lanes of a stream fresh; their recordings continue without earlier context."""
        if (state := self._states.get(stream)) is not None:
            self._states[stream] = state.reset(torch.ones_like(state.fresh))

    def to_save(self, gather: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Returns the states of all training lanes, concatenated; `gather` stacks a tensor (B, ...) of all data ranks."""
        tensors = self._states["train"].tensors() if "train" in self._states else []
        return [gather(tensor).flatten(0, 1).cpu() for tensor in tensors]

    def restore(self, saved: list[Tensor], rank: int) -> None:
        """Restores this rank's lanes from `to_save`, possibly another number of them; drops all other states."""
        self._states.clear()
        self._saved, self._rank = saved, rank

    def _rebuilt(self, net: AutoregressiveNet, context: Tensor) -> ModelState:
        lanes = len(context)
        mine = iter(tensor[self._rank * lanes : (self._rank + 1) * lanes].to(context.device) for tensor in self._saved)
        # At a chunk's border every pooling window is closed, as in a fresh state.
        with torch.no_grad(), undivided(net):
            _, template = net.nats(torch.zeros(lanes, 0, dtype=torch.long, device=context.device))
        return template.map(lambda _: next(mine))
