import math

import pytest
import torch

from harmonicrnn.metrics import NLLByPosition


def test_bins_and_means():
    nats = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) > 0.2
    context = torch.tensor([0, 40, 1_000_000])
    metric = NLLByPosition()
    metric.update(nats[:2, :20], valid[:2, :20], context[:2])
    metric.update(nats[:2, 20:], valid[:2, 20:], context[:2] + 20)
    metric.update(nats[2:], valid[2:], context[2:])
    measured, edges = metric.compute(), [0, *NLLByPosition.edges().tolist()]
    assert edges[:8] == [0, 1, 2, 2, 3, 4, 6, 8]
    sums, counts = {}, {}
    for lane in range(3):
        for t in range(40):
            if valid[lane, t]:
                position = int(context[lane]) + t
                bin_ = max(i for i, edge in enumerate(edges) if edge <= position)
                sums[bin_] = sums.get(bin_, 0) + nats[lane, t].double().item()
                counts[bin_] = counts.get(bin_, 0) + 1
    for i in range(len(edges)):
        assert measured["samples"][i] == counts.get(i, 0)
        if i in sums:
            assert measured["bits_per_sample"][i].item() == pytest.approx(sums[i] / counts[i] / math.log(2), rel=1e-12)
