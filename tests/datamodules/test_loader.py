import pytest
import torch

from datamodules import Synthetic
from datamodules.loader import RankBatches, StreamLoader


@pytest.mark.parametrize("order", ["clips", "crops", "sequential"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_from_its_state_with_any_workers_and_ranks(order, workers):
    data = Synthetic(clips=10, clip_samples=64, batch_size=4, num_workers=0, order=order, scaling="none")
    data.setup("fit")
    whole = StreamLoader(data.datasets["train"], RankBatches(data.order_of("train"), 0, 1), 0)
    expected = [batch for _ in range(3) for batch in whole]
    for given in (0, 1, len(whole), len(whole) + 1):
        resumed = []
        for rank in range(2):
            loader = StreamLoader(data.datasets["train"], RankBatches(data.order_of("train"), rank, 2), workers)
            loader.load_state_dict({"given": given})
            resumed.append(list(loader))
            assert loader.state_dict()["given"] == given + len(resumed[0])
        for i, parts in enumerate(zip(*resumed, strict=True)):
            assert torch.equal(torch.cat([part.clip for part in parts]), expected[given + i].clip)
            assert torch.equal(torch.cat([part.classes for part in parts]), expected[given + i].classes)
