"""Tests of each exchange alone, forward and backward, over processes and simulated within one."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from harmonicrnn.parallel import ContextGroup, ProcessGroup, simulated_groups
from tests.helpers import relative_error

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.complex128]
B, D = 3, 4


def whole(time, dtype, seed=0):
    """Returns a sequence (B, time, D) of integers that all dtypes represent exactly."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randint(-8, 8, (2, B, time, D), generator=g).double()
    return (torch.complex(*values) if dtype.is_complex else values[0]).to(dtype)


def halo_of(group, steps, time, dtype):
    """Returns this rank's halo, its slice, and the steps that precede the sequence."""
    x = whole(time * group.size, dtype)[:, group.rank * time : (group.rank + 1) * time].clone().requires_grad_()
    first = whole(steps, dtype, seed=1).requires_grad_()
    halo = group.halo(x, first)
    return halo, x, first


def expected_halos(size, steps, time, dtype):
    x, first = whole(time * size, dtype).requires_grad_(), whole(steps, dtype, seed=1).requires_grad_()
    joined = torch.cat([first, x], dim=1)
    halos = [joined[:, rank * time : rank * time + steps] for rank in range(size)]
    weights = [whole(steps, dtype, seed=2 + rank) for rank in range(size)]
    grads = torch.autograd.grad(halos, [x, first], weights)
    return halos, grads


def check(size, steps, time, dtype, results):
    halos, (grad_x, grad_first) = expected_halos(size, steps, time, dtype)
    for rank, (halo, grad, grad_f) in enumerate(results):
        assert torch.equal(halo, halos[rank])
        # Sums of small integers are exact, except in bfloat16, which may have too few bits.
        assert relative_error(grad.to(torch.complex128), grad_x[:, rank * time : (rank + 1) * time].to(torch.complex128)) < 1e-2
        assert dtype == torch.bfloat16 or torch.equal(grad, grad_x[:, rank * time : (rank + 1) * time])
        assert torch.equal(grad_f, grad_first if rank == 0 else torch.zeros_like(grad_first))


SHAPES = [(3, 5), (3, 3), (1, 1), (3, 1), (5, 2)]


def on_a_rank(dtype):
    """Returns the halo and gradients of this rank for each shape."""
    group, results = ContextGroup(ProcessGroup(dist.group.WORLD)), []
    for steps, time in SHAPES:
        halo, x, first = halo_of(group, steps, time, dtype)
        grads = torch.autograd.grad(halo, [x, first], whole(steps, dtype, seed=2 + group.rank))
        results.append((halo.detach(), *grads))
    return results


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_halo_over_processes(ranks, size, dtype):
    for (steps, time), results in zip(SHAPES, zip(*ranks.run(size, on_a_rank, dtype), strict=True), strict=True):
        check(size, steps, time, dtype, results)


@pytest.mark.parametrize(("steps", "time"), SHAPES)
@pytest.mark.parametrize("size", [2, 4])
def test_halo_simulated(size, steps, time):
    dtype = torch.float64
    made = [halo_of(group, steps, time, dtype) for group in simulated_groups(size)]
    results = []
    for rank in reversed(range(size)):
        halo, x, first = made[rank]
        results.insert(0, (halo, *torch.autograd.grad(halo, [x, first], whole(steps, dtype, seed=2 + rank))))
    check(size, steps, time, dtype, results)


def test_no_halo_is_no_exchange():
    group = simulated_groups(2)[1]
    first = torch.zeros(2, 0, 3)
    assert group.halo(torch.ones(2, 5, 3), first) is first


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gather_over_processes(ranks, dtype):
    for values, numbers in ranks.run(2, gathered_on_a_rank, dtype):
        assert torch.equal(values, torch.stack([whole(2, dtype, seed=rank) for rank in range(2)]).conj())
        assert numbers.tolist() == [0.0, 1.0]


def gathered_on_a_rank(dtype):
    group = ContextGroup(ProcessGroup(dist.group.WORLD))
    return group.gather(whole(2, dtype, seed=group.rank).conj()), group.gather(torch.tensor(float(group.rank)))


def in_subgroups():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "context"))
    group = ContextGroup(ProcessGroup(mesh.get_group("context")))
    x = torch.full((1, 2, 1), float(dist.get_rank()))
    return group.halo(x, torch.full((1, 1, 1), -1.0)).item()


def test_subgroups_keep_to_themselves(ranks):
    assert ranks.run(4, in_subgroups) == [-1.0, 0.0, -1.0, 2.0]


def from_last_on_a_rank():
    group = ContextGroup(ProcessGroup(dist.group.WORLD))
    tensors = [
        torch.full((1, 25), group.rank)[:, -1],
        torch.tensor([True, group.rank == 0]),
        torch.zeros(2, 0),
        whole(3, torch.float64, group.rank),
    ]
    return group.from_last(tensors)


def test_the_last_ranks_tensors(ranks):
    for number, flags, empty, values in ranks.run(4, from_last_on_a_rank):
        assert number.tolist() == [3]
        assert flags.tolist() == [True, False]
        assert empty.shape == (2, 0)
        assert torch.equal(values, whole(3, torch.float64, 3))
