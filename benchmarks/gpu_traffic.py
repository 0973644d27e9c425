"""The bytes that a training step moves through a GPU's memory, by operation, its products, and the memory it needs, without a GPU.

    python -m benchmarks.gpu_traffic

Every kernel is taken to read each of its inputs and to write each of its outputs once; nothing is computed, no memory is used.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_counts import BANDWIDTH
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats
from harmonicrnn.models.harmonic_rnn import DEFAULT_LEVELS

PRODUCTS = 790e12
"""Operations a second of bfloat16 products, as measured on an H200."""

MOVE_NOTHING = {"view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias"}
MOVE_NOTHING |= {"split", "split_with_sizes", "chunk", "unbind", "as_strided", "view_as_real", "empty", "empty_like", "new_empty"}
MOVE_NOTHING |= {"empty_strided", "new_empty_strided", "new_zeros", "ones", "lift_fresh", "device"}


class Traffic(TorchDispatchMode):
    """Counts the bytes of every operation under it; `products` in operations and `peak` in bytes are others' to count."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.products, self.peak = 0, 0

    def add(self, name: str, values: Iterable[Any]) -> None:
        # One that is given twice, in the place of one that is not there, or given and returned, counts once.
        found = {(t.untyped_storage()._cdata, t.storage_offset(), t.shape): t for t in values if isinstance(t, Tensor)}
        self.bytes[name] += sum(t.numel() * t.element_size() for t in found.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in MOVE_NOTHING:
            self.add(name, tree_leaves((args, kwargs, out)))
        return out


@contextmanager
def kernels_counted(traffic: Traffic) -> Iterator[None]:
    """The project's GPU kernels are chosen, and counted where they would be launched."""
    from harmonicrnn.ops.triton import chunks, mlp, neighbour_launches, norm

    def count(kernel: Any, *tensors: Tensor | None) -> None:
        traffic.add(f"our {kernel.__name__}", tensors)

    def count_mlp(kernel: Any, x: Tensor, weights: tuple[Tensor, ...], others: tuple[Tensor, ...], **_: Any) -> None:
        count(kernel, x, *weights, *others)
        traffic.products += 2 * (5 if kernel is mlp.gated_mlp_backward_kernel else 3) * weights[0].numel() * x.numel() // x.shape[-1]

    with ExitStack() as stack:
        for target, name, function in (
            ("harmonicrnn.ops.choice", "why_not", lambda *_: None),
            (
                chunks.Steps,
                "launch",
                lambda steps, kernel, *tensors, **_: count(kernel, *tensors),
            ),
            (neighbour_launches, "_elementwise", count),
            (neighbour_launches, "_over_parts", lambda kernel, x, tensors, *_: count(kernel, *tensors)),
            (norm, "_over_steps", lambda kernel, x, turns, tensors, **_: count(kernel, *tensors)),
            (mlp, "_over_steps", count_mlp),
        ):
            stack.enter_context(patch(f"{target}.{name}", function) if isinstance(target, str) else patch.object(target, name, function))
        yield


def counted_step(levels: tuple[LevelSpec, ...], batch: int, samples: int) -> Traffic:
    """Of a forward and a backward pass in bf16-mixed; AdamW's bytes, seven tensors as large as the parameters, beside them."""
    traffic, products = Traffic(), FlopCounterMode(display=False)
    with FakeTensorMode(), kernels_counted(traffic):
        net = HarmonicRNN(levels, scan="triton")
        classes = torch.zeros(batch, samples, dtype=torch.long)

        def run() -> None:
            net.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = sample_nats(net(classes)[0], classes).mean()
            loss.backward()

        # Apart from the counts, which keep tensors alive and are to be of one step.
        alive = MemTracker()
        alive.track_external(net, classes)
        with alive:
            run()
        traffic.peak = max(snapshot["Total"] for snapshot in alive.get_tracker_snapshot("peak").values())
        traffic.bytes.clear()
        traffic.products = 0
        with products, traffic:
            run()
    traffic.bytes["AdamW"] = 7 * sum(p.numel() * p.element_size() for p in net.parameters())
    traffic.products += products.get_total_flops()
    return traffic


def main(batch: PositiveInt = 1, samples: PositiveInt = 960_000, recompute: bool = False, most: NonNegativeInt = 20) -> None:
    """Counts the default model's step, and prints the largest of it.

    Args:
        batch: Clips.
        samples: Of each clip.
        recompute: Whether all levels keep only their blocks' inputs.
        most: Operations that are printed.
    """
    step = counted_step(tuple(replace(level, recompute=recompute) for level in DEFAULT_LEVELS), batch, samples)
    kept = "recomputed" if recompute else "no recomputation"
    print(f"training step, default model, bf16-mixed, {batch} x {samples:,}, {kept}")
    print(f"at {BANDWIDTH / 1e12} TB/s and {PRODUCTS / 1e12:.0f} TFLOP/s:")
    for name, count in step.bytes.most_common(most):
        print(f"{name:34s} {count / 1e9:8.2f} GB {1e3 * count / BANDWIDTH:8.2f} ms")
    moved, floor = step.bytes.total(), max(step.bytes.total() / BANDWIDTH, step.products / PRODUCTS)
    print(f"{'all':34s} {moved / 1e9:8.2f} GB {1e3 * moved / BANDWIDTH:8.2f} ms")
    print(f"{'products':34s} {step.products / 1e12:8.2f} TFLOP {1e3 * step.products / PRODUCTS:5.2f} ms")
    print(f"floor {1e3 * floor:.1f} ms, {batch * samples / floor:,.0f} samples/s; at most {step.peak / 1e9:.1f} GB of tensors at once")


if __name__ == "__main__":
    auto_cli(main)
