"""Transports of exchanges: between processes over NCCL or gloo (ProcessGroup), and in memory between simulated ranks.

Simulated ranks run one after the other in one process: forward from the first to the last, and backward from the last to the first, so
that received tensors are always there.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from harmonicrnn.parallel.exchange import ContextGroup


class ProcessGroup:
    """Exchanges tensors with the other processes of a group.

    Args:
        group: of torch.distributed; its ranks are the ranks along time.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def gather(self, x: Tensor) -> Tensor:
        sent = _real(x)[None]
        received = sent.new_empty(self.size, *sent.shape[1:])
        dist.all_gather_into_tensor(received, sent, group=self.group)
        return torch.view_as_complex(received) if x.is_complex() else received

    def shift(self, x: Tensor, step: int) -> tuple[Tensor, Callable[[], None]]:
        sent = _real(x)
        received = torch.zeros_like(sent)
        exchanges = [
            dist.P2POp(act, tensor, group=self.group, group_peer=peer)
            for act, tensor, peer in ((dist.isend, sent, self.rank + step), (dist.irecv, received, self.rank - step))
            if 0 <= peer < self.size
        ]
        works = dist.batch_isend_irecv(exchanges) if exchanges else []

        def wait(sent: Tensor = sent) -> None:  # keeps the sent tensor alive
            for work in works:
                work.wait()

        return torch.view_as_complex(received) if x.is_complex() else received, wait


def _real(x: Tensor) -> Tensor:
    """Converts complex numbers to pairs of real ones, contiguous, which all backends support."""
    x = x.resolve_conj().contiguous()
    return torch.view_as_real(x) if x.is_complex() else x


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
