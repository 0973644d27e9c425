"""Checks that the size of exchanges does not depend on the length, and that halos are exchanged during other work."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from harmonicrnn.models import HarmonicRNN, LevelSpec, ResidualBlock, sample_nats, set_slices
from harmonicrnn.models.block import BlockPlace
from harmonicrnn.models.presets import PRESETS
from harmonicrnn.parallel import ContextGroup, ProcessGroup, Transport, simulated_groups

LEVELS = (LevelSpec(8, 1, 2), LevelSpec(8, 2, 3), LevelSpec(8, 2))
BLOCKS, LEVEL_BORDERS = 2 + 4 + 2, 2


@dataclass
class Count:
    """Number of exchanges of one rank in a step, and of the bytes it receives."""

    calls: int = 0
    bytes: int = 0
    hidden: int = 0


class Counted:
    """A transport that counts its exchanges."""

    def __init__(self, transport: Transport, count: Count) -> None:
        self.transport, self.rank, self.size, self.count = transport, transport.rank, transport.size, count

    def gather(self, x: Tensor) -> Tensor:
        self.count.calls += 1
        self.count.bytes += x.nbytes * (self.size - 1)
        return self.transport.gather(x)

    def shift(self, x: Tensor, step: int) -> tuple[Tensor, Callable[[], None]]:
        self.count.calls += 1
        self.count.bytes += x.nbytes
        return self.transport.shift(x, step)


class CountedGroup(ContextGroup):
    """Counts also the exchanges that begin before other work and are hidden by it."""

    def __init__(self, group: ContextGroup, count: Count) -> None:
        super().__init__(Counted(group.transport, count))
        self.count, self._at_once = count, False

    def begin_halo(self, tail: Tensor) -> Callable[[Tensor], Tensor]:
        self.count.hidden += 0 if self._at_once else 2  # the exchange of its gradient is hidden too, by the gradients of the same work
        return super().begin_halo(tail)

    def halo(self, x: Tensor, first: Tensor) -> Tensor:
        self._at_once = True
        result = super().halo(x, first)
        self._at_once = False
        return result


def count_step(net: HarmonicRNN, samples: int, ranks: int) -> list[Count]:
    """Returns each rank's exchanges in a forward and backward pass over one clip; the logits must equal those of the whole clip."""
    classes = torch.randint(net.classes, (1, samples), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _ = net(classes)
    counts, passes, before = [Count() for _ in range(ranks)], [], None
    groups = [CountedGroup(group, count) for group, count in zip(simulated_groups(ranks), counts, strict=True)]
    for group, part in zip(groups, classes.chunk(ranks, dim=1), strict=True):
        set_slices(net, group)
        logits, _ = net(part, None, before)
        passes.append((logits, sample_nats(logits, part).sum()))
        before = part[:, -1]
    set_slices(net, None)
    found = torch.cat([logits for logits, _ in passes], dim=1)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    for _, nats in reversed(passes):
        torch.autograd.grad(nats, list(net.parameters()))
    return counts


def make_net():
    return HarmonicRNN(LEVELS, preset="griffin", bits=4, heads=2, groups=2)


def test_calls_and_bytes_simulated():
    for ranks in (2, 4):
        short, long = (count_step(make_net(), ranks * length, ranks) for length in (18, 72))
        assert short == long
        # Forward and backward: the scan and the convolution of each block, and the delayed outputs of each level.
        assert {count.calls for count in short} == {2 * (2 * BLOCKS + LEVEL_BORDERS)}
        scans = BLOCKS * 2 * 8 * 4 * (ranks - 1)  # product and last state, 4 complex units
        halos = BLOCKS * 3 * 8 * 4 + (1 + 2) * 8 * 4  # three steps per block, and p - 1 steps per level
        assert short[0].bytes == 2 * (scans + halos)


def counted_by_the_library(*lengths):
    """Returns this rank's count, and every collective of torch.distributed by name and shape, in a step on slices of each length."""
    return [counted_step(length) for length in lengths]


def counted_step(length):
    torch.manual_seed(0)
    net, count = make_net(), Count()
    set_slices(net, CountedGroup(ContextGroup(ProcessGroup(dist.group.WORLD)), count))
    classes = torch.zeros(1, length, dtype=torch.long)
    with torch.autograd.profiler.profile(record_shapes=True) as profile:  # torch.profiler would import the compiler
        sample_nats(net(classes, None, classes[:, 0])[0], classes).sum().backward()
    return count, sorted((e.name, str(e.input_shapes)) for e in profile.function_events if e.name.startswith("gloo:"))


def test_calls_over_processes(ranks):
    ((count, short), (_, long)), _ = ranks.run(2, counted_by_the_library, 18, 72)
    assert short == long
    # The first of two ranks sends in every shift forward and receives in every one backward.
    assert len(short) == count.calls == 2 * (2 * BLOCKS + LEVEL_BORDERS), short


class Recorded:
    """A transport that records when shifts begin and when they are waited for."""

    def __init__(self, transport, events):
        self.transport, self.rank, self.size, self.events = transport, transport.rank, transport.size, events

    def gather(self, x):
        return self.transport.gather(x)

    def shift(self, x, step):
        self.events.append("begin")
        received, wait = self.transport.shift(x, step)

        def waited():
            self.events.append("wait")
            wait()

        return received, waited


def test_work_lies_between_begin_and_wait():
    """Both projections run on the whole slice; the first call of `input` is for the steps to be sent only."""
    torch.manual_seed(0)
    block, passes = ResidualBlock(BlockPlace(8, 2.0), replace(PRESETS["griffin"], heads=2)), []
    for name, layer in (("gate", block.mixer.gate), ("input", block.mixer.layer.input)):
        layer.register_forward_hook(lambda *call, name=name: events.append(name))
        layer.register_full_backward_hook(lambda *call, name=name: events.append(name))
    for group in simulated_groups(2):
        events = []
        set_slices(block, ContextGroup(Recorded(group.transport, events)))
        y, _ = block(torch.randn(1, 20, 8, requires_grad=True))
        assert events == ["input", "begin", "gate", "input", "wait"]
        passes.append((y, events))
    for y, events in reversed(passes):
        events.clear()
        y.sum().backward()
        begin, wait = events.index("begin"), events.index("wait")
        assert sorted(events[begin + 1 : wait]) == ["gate", "input"]
        assert events[wait + 1 :] == ["input"]
