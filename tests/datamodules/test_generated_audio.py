"""Tests of the data module of synthetic music."""

import pytest
import torch

from datamodules import Synthetic
from harmonicrnn.errors import UserError
from tests.datamodules.test_audio_datamodule import ready


def test_is_a_function_of_seed_split_and_index():
    first, second = (ready(Synthetic(clips=16, num_workers=0, batch_size=2), "fit") for _ in range(2))
    assert torch.equal(first.clip("train", 3).classes, second.clip("train", 3).classes)
    assert not torch.equal(first.clip("train", 3).classes, first.clip("validation", 0).classes)
    assert len(first._table("validation")) == 2
    other = ready(Synthetic(clips=16, seed=1), "fit")
    assert not torch.equal(first.clip("train", 3).classes, other.clip("train", 3).classes)


def test_refuses_file_scaling():
    with pytest.raises(UserError, match="scaling: file does not apply"):
        Synthetic(scaling="file")


def test_too_many_made_up_clips():
    with pytest.raises(UserError, match=r"data\.clips must be between 1 and"):
        Synthetic(clips=10**12)
