"""Tests of the data loaders: resuming from a state, and pickling for worker processes."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from datamodules import SC09, Memory, Synthetic
from datamodules.loader import RankBatches, StreamLoader
from tests.audio_files import make_sc09

ORDERS = ("clips", "crops", "sequential")
WORKERS = [(order, 0) for order in ORDERS] + [pytest.param(order, 2, marks=pytest.mark.slow) for order in ORDERS[:2]] + [("sequential", 2)]


@pytest.mark.parametrize(("order", "workers"), WORKERS)
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


@pytest.mark.parametrize("kind", [Memory, SC09, Synthetic])
def test_what_workers_are_given_can_be_sent_to_them(kind, tmp_path):
    """Workers are not forked on macOS, nor from Python 3.14 on."""
    make_sc09(tmp_path)
    own = {Memory: {"distance": 32, "motif": 3, "grid": 8, "pairs": 3, "recordings": 8}, SC09: {"root": tmp_path}, Synthetic: {"clips": 8}}
    data = kind(**own[kind], batch_size=2, num_workers=0)
    data.trainer = SimpleNamespace(world_size=1, cannot_be_sent=lambda: None)
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    sent = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn)))
    pieces = next(iter(loader.batches))
    assert torch.equal(sent[1]([sent[0][piece] for piece in pieces]).classes, next(iter(loader)).classes)
