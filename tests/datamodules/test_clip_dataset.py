"""Tests of the clip dataset: slices of a clip for the ranks of a context-parallel group."""

import pytest
import torch

from datamodules.clip_dataset import ClipDataset
from datamodules.orders import Piece
from harmonicrnn.audio import Quantiser, extremes


class Recording:
    """A recording that records which of its samples are read."""

    def __init__(self, length):
        self.values, self.reads = torch.rand(length, generator=torch.Generator().manual_seed(0)) * 2 - 1, []
        self.lengths = [length]

    def samples(self, recording, start, stop):
        self.reads.append((start, stop))
        return self.values[start:stop]

    def extremes(self, recording, start, stop):
        return extremes(self.values[start:stop])


@pytest.mark.parametrize("scaling", ["clip", "file", "none"])
def test_a_slice_reads_itself_and_the_sample_before_it(scaling):
    """Reads a clip of 22 samples from sample 5 on, padded to 24, as four slices, which together equal the clip."""
    source = Recording(40)
    whole, piece = ClipDataset(source, 24, Quantiser(), scaling), Piece(0, 5, 27, 3)
    expected = whole[piece]
    source.reads.clear()
    slices = [whole.sliced(6 * rank, 6)[piece] for rank in range(4)]
    assert source.reads == [(5, 11), (10, 17), (16, 23), (22, 27)]
    for name in ("classes", "valid"):
        assert torch.equal(torch.cat([getattr(part, name) for part in slices]), getattr(expected, name))
    assert [part.before.item() for part in slices[1:]] == expected.classes[[5, 11, 17]].tolist()
    assert [part.start.item() for part in slices] == [0, 6, 12, 18]
