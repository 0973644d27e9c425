"""A context group simulated within one process: its ranks run one after the other and exchange tensors in memory.

Run forward from the first rank to the last, and backward from the last to the first, so that received tensors are always there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from harmonicrnn.parallel.exchange import ContextGroup


class InMemory:
    """The exchanges of one simulated rank. Tensors of ranks that have not run yet are zeros, and must not be used."""

    def __init__(self, rank: int, size: int, posts: list[dict[int, Tensor]]) -> None:
        self.rank, self.size = rank, size
        self._posts, self._calls = posts, 0

    def gather(self, x: Tensor) -> Tensor:
        posts = self._post(x)
        return torch.stack([posts.get(rank, torch.zeros_like(x)) for rank in range(self.size)])

    def shift(self, x: Tensor, step: int) -> tuple[Tensor, Callable[[], None]]:
        return self._post(x).get(self.rank - step, torch.zeros_like(x)).clone(), lambda: None

    def _post(self, x: Tensor) -> dict[int, Tensor]:
        if self._calls == len(self._posts):
            self._posts.append({})
        posts = self._posts[self._calls]
        posts[self.rank] = x.detach()
        self._calls += 1
        return posts


def simulated_groups(size: int) -> list[ContextGroup]:
    """Returns a group for each of `size` ranks, for one forward and backward pass."""
    posts: list[dict[int, Tensor]] = []
    return [ContextGroup(InMemory(rank, size, posts)) for rank in range(size)]
