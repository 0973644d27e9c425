"""What the ranks of a context group exchange in one training step, and how long that takes on a link of given speed.

    python -m benchmarks.context_exchanges [--ranks N] [--step_ms MS]

Counted on the default model, its ranks simulated within one process, at a length T and at 4 T: neither calls nor bytes depend on the
length, so that the counts are those of 960,000 samples too. Times are predicted from the speeds given, not measured. Beforehand the model
in slices is compared with the model in one pass.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from torch import Tensor

from harmonicrnn.models import HarmonicRNN, sample_nats, set_slices
from harmonicrnn.parallel import ContextGroup, Transport, simulated_groups
from harmonicrnn.provenance import code_version

LINKS = {
    "NVLink, 450 GB/s, 5 us a call": (450e9, 5e-6),
    "NVLink, 450 GB/s, 20 us a call": (450e9, 20e-6),
    "100 Gb/s, 30 us a call": (12.5e9, 30e-6),
}
BUCKET_BYTES = 25 << 20  # of DistributedDataParallel
STOPPING = 2  # by which ranks agree after a step whether a signal asked any of them to stop


@dataclass
class Count:
    """Exchanges of one rank in one step, and the bytes that it receives."""

    calls: int = 0
    bytes: int = 0
    hidden: int = 0


class Counted:
    """A transport that counts."""

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
    """Also counts the exchanges that are begun before other work, and hidden by it."""

    def __init__(self, group: ContextGroup, count: Count) -> None:
        super().__init__(Counted(group.transport, count))
        self.count, self._at_once = count, False

    def begin_halo(self, tail: Tensor) -> Callable[[Tensor], Tensor]:
        self.count.hidden += 0 if self._at_once else 2  # its way back is hidden by the same work's gradients
        return super().begin_halo(tail)

    def halo(self, x: Tensor, first: Tensor) -> Tensor:
        self._at_once = True
        result = super().halo(x, first)
        self._at_once = False
        return result


def count_step(net: HarmonicRNN, samples: int, ranks: int) -> list[Count]:
    """The exchanges of each rank in a forward and backward pass over one clip; raises where slices and the whole differ."""
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
    error = (torch.cat([logits for logits, _ in passes], dim=1) - expected).abs().max() / expected.abs().max()
    if not error < 1e-5:
        raise SystemExit(f"the model in slices differs from one pass by {error:.1e}: nothing is reported")
    for _, nats in reversed(passes):
        torch.autograd.grad(nats, list(net.parameters()))
    return counts


def main(ranks: PositiveInt = 8, step_ms: float = 12.5) -> None:
    """Counts, then predicts.

    Args:
        ranks: That share the waveform.
        step_ms: Time of a rank's own work in one step, which the exchanges are set against; 12.5 ms is an eighth of the 100 ms that a step
            on 960,000 samples is to take on one H200, and not a measurement.
    """
    torch.manual_seed(0)
    net = HarmonicRNN()
    samples = ranks * 3 * net.pooling_product  # the innermost slices are as long as the convolution's halo
    count, at_four_times = (max(count_step(net, length, ranks), key=lambda c: c.bytes) for length in (samples, 4 * samples))
    if count != at_four_times:
        raise SystemExit(f"exchanges grow with the length: {count} at {samples} samples, {at_four_times} at {4 * samples}")
    gradients = sum(p.numel() for p in net.parameters()) * 4
    reductions = -(-gradients // BUCKET_BYTES) + 1
    print(f"versions torch {torch.__version__}, python {platform.python_version()}, commit {code_version()}")
    print(f"model    {sum(p.numel() for p in net.parameters()):,} parameters, one waveform, {ranks} ranks, float32")
    print(f"context  {count.calls} exchanges a step, {count.bytes / 1e3:,.0f} kB to a rank, at {samples:,} as at {4 * samples:,} samples")
    print(f"         {count.hidden} begin before other work and are waited for after it: below they are taken to be hidden")
    print(f"data     {reductions} reductions, of {gradients / 1e6:.1f} MB of gradients, the loss and the number of valid samples")
    print(f"stopping {STOPPING} small ones over the CPU, Lightning's and ours; {count.calls + reductions + STOPPING} in all")
    for name, (speed, latency) in LINKS.items():
        whole, exposed = (calls * latency + count.bytes / speed for calls in (count.calls, count.calls - count.hidden))
        reduced = reductions * latency + 2 * gradients * (ranks - 1) / ranks / speed
        print(
            f"{name:32s} predicted: {whole * 1e3:5.2f} ms ({whole / step_ms * 1e3:5.1%} of {step_ms} ms), "
            f"not hidden {exposed * 1e3:5.2f} ms ({exposed / step_ms * 1e3:5.1%}), gradients {reduced * 1e3:5.2f} ms"
        )


if __name__ == "__main__":
    auto_cli(main)
