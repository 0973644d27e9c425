"""Cases of `benchmarks.gpu`: generation by the model of configs/sc09.yaml."""

import torch
from torch import Tensor

from benchmarks.timing import UnequalError, by_turns, check, show
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.models import HarmonicRNN

STREAMS = {1: "16,000 samples/s", 4096: "10,000,000 samples/s"}
"""Clips that are drawn together, and the goal for all of them."""

CHECKED = 8
"""Lanes whose likelihoods are held against the parallel pass, whose logits of all lanes would fill the memory."""


@torch.inference_mode()
def generation(streams: int, device: torch.device, repeats: int, net: HarmonicRNN | None = None, precision: str = "highest") -> None:
    """Whole pooling periods in float32, sampled on the device; before it, the likelihoods of two periods and that a start repeats them."""
    torch.manual_seed(0)
    net = (HarmonicRNN(preset="griffin") if net is None else net).to(device).eval()
    what = f"generation, {streams:,} streams, {precision} precision of products"
    _, fresh = net(torch.zeros(streams, 0, dtype=torch.long, device=device))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        engine, uniforms = GraphEngine(net), torch.rand(streams, 2 * net.pooling_product, dtype=torch.float64, device=device)
        engine.start(fresh)
        classes, nats = engine.draw(uniforms, 1.0, 1.0)
        check(what, [nats[:CHECKED]], [_nats(net, classes[:CHECKED].to(device)).cpu()], 1e-4 if precision == "highest" else 1e-2)
        engine.start(fresh)
        if not torch.equal(engine.draw(uniforms, 1.0, 1.0)[0], classes):
            raise UnequalError(f"{what}: the same numbers drew other classes after a new start")
        (seconds,) = by_turns({what: lambda: engine.draw(uniforms, 1.0, 1.0)}, repeats, device, warm_up=3).values()
    finally:
        torch.set_float32_matmul_precision(before)
    goal = (f"goal {STREAMS[streams]}",) if streams in STREAMS else ()
    show(what, [streams * uniforms.shape[1] / s for s in seconds], "samples/s", *goal)


def _nats(net: HarmonicRNN, classes: Tensor) -> Tensor:
    """-ln p of each class by one parallel pass in full precision, (B, T) float64."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        logits, _ = net(classes)
    finally:
        torch.set_float32_matmul_precision(before)
    return -torch.log_softmax(logits.double(), dim=-1).gather(2, classes[..., None])[..., 0]
