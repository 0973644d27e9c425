"""Tests of the memory task's data: motifs and repeats, entropy, distances, counted samples and settings that do not fit."""

import math

import pytest
import torch

from datamodules import Memory
from harmonicrnn.errors import UserError

SMALL = {"distance": 32, "motif": 3, "grid": 8, "pairs": 3, "recordings": 8, "batch_size": 2, "num_workers": 0}


def ready(**changes):
    data = Memory(**SMALL | changes)
    data.setup("fit")
    return data


def counted(data, split="validation"):
    """Returns the classes and positions of the counted samples of each recording."""
    found = {}
    loader = data.val_dataloader() if split == "validation" else data.train_dataloader()
    per_recording = -(-data.shape[1] // data.clip_samples)
    for batch in loader:
        for lane in range(len(batch.clip)):
            recording, chunk = divmod(int(batch.clip[lane]), per_recording)
            start = chunk * data.clip_samples + (0 if batch.start is None else int(batch.start[lane]))
            for i in batch.valid[lane].nonzero()[:, 0].tolist():
                found[recording, start + i] = int(batch.classes[lane, i])
    return found


def test_repeats_are_their_motifs_k_samples_later():
    data = ready()
    for index in range(4):
        classes = torch.from_numpy(data.classes("train", index))
        repeats = data.is_repeat(torch.arange(len(classes))).nonzero()[:, 0]
        assert len(repeats) == 3 * 3
        assert torch.equal(classes[repeats], classes[repeats - 32])
        assert (classes[repeats[::3] - 1] == 15).all()
        assert (classes[repeats[::3] - 33] == 0).all()
        assert ((classes == 0) | (classes == 15)).sum() == 2 * 3


def test_nothing_but_the_motif_tells_of_the_repeat():
    data = ready(recordings=400)
    classes = torch.stack([torch.from_numpy(data.classes("train", i)) for i in range(400)])
    first = int(data.is_repeat(torch.arange(classes.shape[1])).nonzero()[0, 0])
    centred, deviations = classes - classes.double().mean(0), classes.double().std(0)
    correlation = (centred * centred[:, first, None]).mean(0) / (deviations * deviations[first])
    # All but one of 400 varying samples lie within 5 standard errors of zero correlation.
    assert (correlation.nan_to_num().abs() > 5 / 400**0.5).nonzero()[:, 0].tolist() == [first - 32, first]


def test_the_bits_of_noise_and_motifs():
    """Noise has 1 bit/sample; a motif b - 1 bits/sample, which is also the cost of a repeat if its motif is forgotten."""
    data = ready(recordings=400)
    classes = torch.stack([torch.from_numpy(data.classes("train", i)) for i in range(400)])
    repeat = data.is_repeat(torch.arange(classes.shape[1]))
    motif = torch.zeros_like(repeat)
    motif[repeat.nonzero()[:, 0] - 32] = True
    marker = (classes[0] == 0) | (classes[0] == 15)
    for subset, bits in ((motif, 3), (~motif & ~repeat & ~marker, 1)):
        values = classes[:, subset].flatten()
        shares = torch.bincount(values, minlength=16) / len(values)
        assert -(shares * shares.log2()).nansum().item() == pytest.approx(bits, abs=0.01)
        assert (shares > 0).sum() == 2**bits


def test_distances_of_each_pair_its_own():
    data = ready(distance=64, min_distance=8, pairs=200, motif=3)
    found = []
    for index in range(5):
        classes = torch.from_numpy(data.classes("train", index))
        starts, backs = ((classes == marker).nonzero()[:, 0] for marker in (0, 15))
        found.append(backs - starts)
        for i in range(1, 4):
            assert torch.equal(classes[starts + i], classes[backs + i])
    counts = torch.bincount(torch.cat(found) // 8)
    assert counts[0] == 0
    assert len(counts) == 9
    expected = [1000 * math.log((i + 1) / i) / math.log(9) for i in range(1, 9)]
    assert counts[1:].tolist() == pytest.approx(expected, abs=60)


def test_is_a_function_of_seed_split_and_index():
    first, second, other = ready(), ready(), ready(seed=1)
    assert torch.equal(first.clip("train", 3).classes, second.clip("train", 3).classes)
    assert not torch.equal(first.clip("train", 3).classes, first.clip("train", 4).classes)
    assert not torch.equal(first.clip("train", 0).classes, first.clip("validation", 0).classes)
    assert not torch.equal(first.clip("train", 3).classes, other.clip("train", 3).classes)
    assert first.checksum("train") == second.checksum("train") != other.checksum("train")


def test_what_counts_is_the_same_in_clips_chunks_and_slices():
    whole = counted(ready())
    assert len(whole) == 1 * 3 * 3
    assert counted(ready(clip_samples=24, eval_context="file")) == whole
    assert counted(ready(clip_samples=40)) == whole
    slices = {}
    for rank in range(2):
        data = ready()
        dataset = data.datasets["validation"].sliced(64 * rank, 64)
        data.datasets["validation"] = dataset
        slices |= counted(data)
    assert slices == whole
    assert "after 32, counted: repeats" in data.protocol
    data = ready(counted="all")
    assert len(counted(data)) == data.shape[1]


def test_short_clips_cut_every_repeat_off_from_its_motif():
    data = ready(clip_samples=40)
    for _, position in counted(data):
        assert position // 40 != (position - 32) // 40


def test_classes_survive_the_quantiser():
    data = ready()
    classes = torch.from_numpy(data.classes("train", 1))
    assert torch.equal(data.clip("train", 1).classes.long(), classes)
    assert torch.equal(data.audio("train", 1), data.quantiser.decode_centre(classes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": 36}, r"data.distance \(36\) must be a multiple of data.grid \(8\)"),
        ({"distance": 0}, "data.distance must be at least 1, got 0"),
        ({"motif": 8}, r"data.grid \(8\) must be more than data.motif \(8\)"),
        ({"min_distance": 12}, r"data.min_distance \(12\) must be a multiple of data.grid \(8\), at most data.distance \(32\)"),
        ({"min_distance": 40}, r"data.min_distance \(40\) must be"),
        ({"pairs": 0}, "data.pairs must be at least 1"),
        ({"recordings": 0}, "data.recordings must be at least 1"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        Memory(**SMALL | settings)


@pytest.mark.parametrize(("key", "other"), [("counted", "all"), ("min_distance", 8), ("motif", 2)])
def test_training_does_not_go_on_with_other_motifs(key, other):
    """Names and lengths of the recordings are the same."""
    state = ready().train_dataloader().state_dict()
    ready().train_dataloader().load_state_dict(state)
    with pytest.raises(UserError, match=rf"data\.{key} was {SMALL.get(key, '')}.*is {other} now"):
        ready(**{key: other}).train_dataloader().load_state_dict(state)
