"""Tests of likelihoods without training: exact, on the samples that a model is measured on, computed once per data and protocol."""

import math

import pytest
import soundfile
import torch

from datamodules import SC09, AudioFolder, Memory, Synthetic
from harmonicrnn.evaluation import untrained
from harmonicrnn.evaluation.likelihood import measure_likelihood
from harmonicrnn.evaluation.untrained import ESTIMATED_UNIGRAM, UNIGRAM, Untrained, measure_untrained, worse_than_untrained
from harmonicrnn.models import Prediction, PredictorsAlone
from harmonicrnn.models.predictors_alone import FILTERS, PREDICTORS
from harmonicrnn.ops.prediction import Predictor
from tests.audio_files import make_folder, make_sc09, tone

ADAPTIVE = {PREDICTORS: FILTERS[PREDICTORS]}


@pytest.fixture
def computed(monkeypatch):
    """Returns a list of what was computed, rather than read from the cache, since the test began."""
    found = []
    predictors, shares = untrained._by_predictors, untrained._by_shares
    monkeypatch.setattr(untrained, "_by_predictors", lambda net: found.append("predictors") or predictors(net))
    monkeypatch.setattr(untrained, "_by_shares", lambda counts: found.append("unigram") or shares(counts))
    return found


def make_data(root, **settings):
    data = SC09(root, **{"clip_samples": 320, "batch_size": 2, "num_workers": 0} | settings)
    data.prepare_data()
    for split in ("train", "validation", "test"):
        data.read(split)
    return data


def as_a_model(data, split, filters):
    """Measures the predictors as trained models are measured, by logits."""
    net = PredictorsAlone(data.bits, filters)
    net.set_cells(*data.quantiser.cells())
    return measure_likelihood(net, data, split)


def takes(root, **settings):
    data = AudioFolder(root, clip_samples=160, batch_size=2, num_workers=0, eval_context="file", **settings)
    data.prepare_data()
    data.setup("test")
    data.read("train")
    return data


@pytest.mark.parametrize("kind", ["clips", "files", "memory", "made up"])
def test_what_is_measured_is_what_a_model_of_these_logits_would_have(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(untrained, "PIECE", 150)  # so that clips are processed in pieces
    if kind == "clips":
        data = make_data(make_sc09(tmp_path / "data"))
    elif kind == "files":
        root = make_folder(tmp_path / "data", 40, samples=500)
        soundfile.write(root / "take39.wav", tone(730, 99), 16_000)  # so that lanes end at different times
        data = takes(root)
    elif kind == "memory":
        data = Memory(distance=64, pairs=2, recordings=16, num_workers=0, batch_size=2)
        data.setup("test")
    else:
        data = Synthetic(clips=24, clip_samples=200, batch_size=2, num_workers=0, bits=6, law="linear")
        data.setup("test")
    data.read("train")
    found = measure_untrained(data, "test", tmp_path / "cache", training=data)
    assert [each.name for each in found] == [*FILTERS, UNIGRAM]
    for each in found[:-1]:
        wanted = as_a_model(data, "test", FILTERS[each.name])
        assert each.bits_per_sample == pytest.approx(wanted.bits_per_sample, abs=2e-6)
        assert (each.samples, each.clips) == (wanted.samples, wanted.clips)
        assert each.interval == pytest.approx(wanted.interval, abs=2e-6)


def test_unigram_is_that_of_the_training_split_and_its_padding_is_not_counted(tmp_path):
    data = make_data(make_sc09(tmp_path / "data"), batch_size=3)  # does not divide the 20 clips
    counts = torch.zeros(256, dtype=torch.float64)
    for i in range(data.clip_count("train")):
        clip = data.clip("train", i)
        counts += torch.bincount(clip.classes[clip.valid].long(), minlength=256)
    assert counts.sum() == 20 * 320
    share, bits, samples = (counts + 1) / (counts.sum() + 256), 0.0, 0
    for i in range(data.clip_count("test")):
        clip = data.clip("test", i)
        bits -= share[clip.classes[clip.valid].long()].log2().sum().item()
        samples += int(clip.valid.sum())
    assert samples == 320 + 220
    (found,) = measure_untrained(data, "test", tmp_path / "cache", filters={}, training=data)
    assert (found.name, found.samples) == (UNIGRAM, samples)
    assert found.bits_per_sample == pytest.approx(bits / samples, abs=1e-12)


def test_a_unigram_can_be_estimated_from_clips_at_even_distances(tmp_path, monkeypatch):
    data, cache = make_data(make_sc09(tmp_path / "data"), batch_size=3), tmp_path / "cache"

    def measured(estimated):
        (found,) = measure_untrained(data, "test", cache, filters={}, training=data, estimated=estimated)
        return found

    whole = measured(False)
    assert measured(True) == whole  # of 20 clips, all
    monkeypatch.setattr(untrained, "MOST_CLIPS", 7)
    counts = sum(torch.bincount(data.clip("train", i * 20 // 7).classes.long(), minlength=256) for i in range(7)).double()
    tested = [data.clip("test", i) for i in range(data.clip_count("test"))]
    classes = torch.cat([clip.classes[clip.valid] for clip in tested]).long()
    expected = -((counts + 1) / (counts + 1).sum())[classes].log2().mean().item()
    found = measured(True)
    assert found.name == ESTIMATED_UNIGRAM
    assert found.bits_per_sample == pytest.approx(expected, abs=1e-12)
    assert found.bits_per_sample != whole.bits_per_sample
    assert measured(False) == whole


def test_computed_once_for_data_and_protocol(tmp_path, computed):
    data, cache = make_data(make_sc09(tmp_path / "data")), tmp_path / "cache"

    def measured(data, **settings):
        computed.clear()
        return measure_untrained(data, "test", cache, filters=ADAPTIVE, **settings)

    first = measured(data, training=data)
    assert computed == ["predictors", "unigram"]
    assert measured(data, training=data) == first
    assert not computed
    # Batch size and the location of the folder change nothing.
    assert measured(make_data(make_sc09(tmp_path / "moved"), batch_size=1), training=data) == first
    assert not computed
    # The protocol does.
    for settings in ({"clip_samples": 160}, {"bits": 6}, {"law": "linear"}, {"scaling": "none"}):
        other = make_data(tmp_path / "data", **settings)
        assert measured(other, training=other)[0].bits_per_sample != first[0].bits_per_sample
        assert computed == ["predictors", "unigram"]
    # So do the recordings, those of the training split only for what depends on it.
    soundfile.write(tmp_path / "moved/zero/00000000_nohash_0.wav", tone(320, 77), 16_000)
    trained_on = make_data(tmp_path / "moved")
    again = measured(trained_on, training=trained_on)
    assert computed == ["unigram"]
    assert again[0] == first[0]
    assert again[1] != first[1]
    soundfile.write(tmp_path / "moved/three/00000017_nohash_0.wav", tone(320, 78), 16_000)
    assert measured(make_data(tmp_path / "moved"))[0] != first[0]
    assert computed == ["predictors"]


def test_other_predictors_have_a_result_of_their_own(tmp_path, computed):
    data = make_data(make_sc09(tmp_path / "data"))
    others = {"other": Prediction([Predictor(4, 0.9, 2), Predictor(8, 0.99, 4)]), "wide": Prediction(widths=(9.0,))}
    found = measure_untrained(data, "test", tmp_path / "cache", filters=ADAPTIVE | others)
    assert computed == ["predictors"] * 3
    assert [each.name for each in found] == [PREDICTORS, *others]
    for each, filters in zip(found, (ADAPTIVE | others).values(), strict=True):
        assert each.bits_per_sample == pytest.approx(as_a_model(data, "test", filters).bits_per_sample, abs=2e-6)
    assert len({each.bits_per_sample for each in found}) == 3
    assert measure_untrained(data, "test", tmp_path / "cache", filters=ADAPTIVE | others) == found
    assert len(computed) == 3


def test_a_part_of_the_batches(tmp_path, computed):
    data = make_data(make_sc09(tmp_path / "data"))
    whole = measure_untrained(data, "validation", tmp_path / "cache", filters=ADAPTIVE)
    part = measure_untrained(data, "validation", tmp_path / "cache", filters=ADAPTIVE, batches=1)
    assert (whole[0].clips, part[0].clips) == (3, 2)
    assert computed == ["predictors"] * 2


def test_other_ranks_and_slices_change_nothing(tmp_path):
    data = make_data(make_sc09(tmp_path / "data"))
    alone = measure_untrained(data, "test", tmp_path / "cache", training=data)

    class OnlyRank:
        world_size = 2

        def __getattr__(self, name):
            raise AssertionError(f"{name} of the trainer was asked for")

    data.trainer = OnlyRank()
    assert measure_untrained(data, "test", tmp_path / "other", training=data) == alone


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    data = make_data(make_sc09(tmp_path / "data"))
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be kept there"):
        found = measure_untrained(data, "test", tmp_path / "file", filters=ADAPTIVE)
    assert found == measure_untrained(data, "test", tmp_path / "cache", filters=ADAPTIVE)


def test_worse_is_said():
    known = [Untrained("last sample", 2.0, 10, 1, (1.0, 3.0)), Untrained(PREDICTORS, 3.0, 10, 1, (1.0, 3.0))]
    assert worse_than_untrained(3.25, known) == "worse than linear predictors without any training: 3.2500 against 3.0000 bits/sample"
    assert worse_than_untrained(2.5, known) is None
    assert worse_than_untrained(math.inf, []) is None
    assert worse_than_untrained(3.0, known) is None
