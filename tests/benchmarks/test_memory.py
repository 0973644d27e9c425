"""Checks that the memory task measures memory: only models that can remember solve it."""

import pytest
import torch

from benchmarks.experiments.declare import Experiment
from benchmarks.experiments.memory import POOLED, UNPOOLED, memory
from benchmarks.experiments.results import number
from benchmarks.experiments.runner import Runner
from datamodules import Memory
from harmonicrnn.models import HarmonicRNN, LevelSpec

K = 128  # samples; without recurrence the pooled model reaches back just over 64, the other one 6


def at_repeat(net, data, motif_from, state_cut=False):
    """Returns the logits of recording 0 at its repeat, with the motif replaced by that of recording `motif_from`."""
    classes, other = (torch.from_numpy(data.classes("train", i))[None] for i in (0, motif_from))
    repeat = data.is_repeat(torch.arange(classes.shape[1]))
    motif = repeat.roll(-K)
    classes[:, motif] = other[:, motif]
    if state_cut:
        return net(classes[:, data.period :])[0][:, repeat[data.period :]]
    return net(classes)[0][:, repeat]


@pytest.mark.parametrize("levels", [POOLED, UNPOOLED], ids=["pooled", "unpooled"])
@pytest.mark.parametrize("recurrence", ["complex", "real", "none"])
def test_only_a_recurrence_whose_state_is_not_cut_tells_motifs_apart(levels, recurrence):
    """Logits that do not depend on the motif cost at least 3 bits/sample on its repeat, by the motif's entropy."""
    torch.manual_seed(0)
    net = HarmonicRNN([LevelSpec(**level) for level in levels], preset="griffin", bits=4, recurrence=recurrence, heads=4).double()
    data = Memory(distance=K, grid=16, pairs=1)
    with torch.no_grad():
        own, others = (at_repeat(net, data, i) for i in (0, 1))
        assert torch.equal(own, others) == (recurrence == "none")
        assert torch.equal(*(at_repeat(net, data, i, state_cut=True) for i in (0, 1)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_learned_and_its_lack_is_not(tmp_path):
    """Runs two trainings of a minute."""
    runs = {run.name: run for run in memory().runs}
    learns, cannot = runs["complex_k64"], runs["none_unpooled_k64"]
    remembered, forgotten = Runner(Experiment("memory", "?", (learns, cannot)), tmp_path, "cpu").run((learns, cannot), 1)
    bits = [[number(row, f"{test} bits") for test in ("repeat", "cut")] for row in (remembered, forgotten)]
    assert bits[0][0] < min(3, bits[0][1]) - 1
    assert min(*bits[1], bits[0][1]) > 3 - 0.05
