import pytest
import torch

from datamodules import Memory
from errors import UserError

SMALL = {"distance": 32, "motif": 3, "grid": 8, "pairs": 3, "recordings": 8, "batch_size": 2, "num_workers": 0}


def ready(**changes):
    data = Memory(**SMALL | changes)
    data.setup("fit")
    return data


def counted(data, split="validation"):
    """Class and position of each counted sample, of each recording."""
    found = {}
    loader = data.val_dataloader() if split == "validation" else data.train_dataloader()
    per_recording = -(-data.recording_samples // data.clip_samples)
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


def test_noise_and_motifs_are_uniform_and_independent_of_one_another():
    """Of b - 1 bits a sample, which is what a repeat costs where its motif is forgotten."""
    data = ready(recordings=400)
    classes = torch.stack([torch.from_numpy(data.classes("train", i)) for i in range(400)])
    repeat = data.is_repeat(torch.arange(classes.shape[1]))
    marker = (classes[0] == 0) | (classes[0] == 15)
    shares = torch.bincount(classes[:, ~marker & ~repeat].flatten(), minlength=16) / classes[:, ~marker & ~repeat].numel()
    assert shares[4:12].tolist() == pytest.approx([1 / 8] * 8, abs=0.01)
    assert shares.sum() == pytest.approx(shares[4:12].sum())
    # Apart from the motif itself no sample tells of the repeat: all but one of 400 are correlated by less than 5 standard errors.
    centred = classes - classes.double().mean(0)
    first = repeat.nonzero()[0, 0]
    deviations = centred.std(0)
    free = deviations > 0
    correlation = (centred * centred[:, first, None]).mean(0)[free] / (deviations[free] * deviations[first])
    assert (correlation.abs() > 5 / 400**0.5).nonzero()[:, 0].tolist() == [
        i for i, position in enumerate(free.nonzero()[:, 0].tolist()) if position in (first, first - 32)
    ]


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
    data = ready(counted="all")
    assert len(counted(data)) == data.recording_samples


def test_short_clips_cut_every_repeat_off_from_its_motif():
    data = ready(clip_samples=40)
    for _, position in counted(data):
        assert position // 40 != (position - 32) // 40


def test_classes_survive_the_quantiser():
    data = ready()
    assert torch.equal(data.clip("train", 1).classes.long(), torch.from_numpy(data.classes("train", 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": 36}, r"data.distance \(36\) must be a multiple of data.grid \(8\)"),
        ({"distance": 0}, r"data.distance \(0\) must be a multiple"),
        ({"motif": 8}, r"data.grid \(8\) must be more than data.motif \(8\)"),
        ({"pairs": 0}, "data.pairs must be at least 1"),
        ({"recordings": 0}, "data.recordings must be at least 1"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        Memory(**SMALL | settings)
