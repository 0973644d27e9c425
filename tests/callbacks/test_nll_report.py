"""Tests of the likelihoods without training that are computed beside a training: which ones, and on how many clips."""

from types import SimpleNamespace

import pytest

from callbacks.nll_report import NLLReport
from datamodules import Synthetic
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.untrained import ESTIMATED_UNIGRAM, UNIGRAM, measure_untrained
from harmonicrnn.models.predictors_alone import FILTERS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("callbacks.nll_report.default_cache", lambda: tmp_path)


def make_data():
    """Returns data with 5 clips for validation and 5 for testing, in batches of 2."""
    data = Synthetic(clips=40, clip_samples=50, batch_size=2, num_workers=0)
    for split in ("validation", "test"):
        data.read(split)
    return data


def trainer(validation=1.0, test=1.0):
    return SimpleNamespace(limit_val_batches=validation, limit_test_batches=test)


@pytest.mark.parametrize(("limit", "batches", "clips"), [(1.0, None, 5), (3, None, 5), (2, 2, 4), (0.4, 1, 2)])
def test_training_waits_for_no_more_than_the_batches_that_it_validates_on(tmp_path, limit, batches, clips):
    callback, data = NLLReport(), make_data()
    callback.measure(trainer(validation=limit), data, "fit")
    assert "train" not in data.datasets
    expected = measure_untrained(data, "validation", tmp_path / "other", training=data.with_training(), batches=batches)
    assert callback.found == expected
    assert [(each.name, each.clips) for each in callback.found] == [(name, clips) for name in (*FILTERS, UNIGRAM)]
    assert len(list(tmp_path.glob("*.pt"))) == len([*FILTERS, UNIGRAM, "the classes of the training split"])


def test_training_counts_classes_in_some_clips_alone(monkeypatch):
    monkeypatch.setattr("harmonicrnn.evaluation.untrained.MOST_CLIPS", 4)  # of 30
    callback = NLLReport()
    callback.measure(trainer(), make_data(), "fit")
    assert [each.name for each in callback.found] == [*FILTERS, ESTIMATED_UNIGRAM]


def test_test_has_them_all():
    callback, data = NLLReport(), make_data()
    callback.measure(trainer(validation=0), data, "test")
    assert [each.name for each in callback.found] == [*FILTERS, UNIGRAM]
    assert "train" not in data.datasets  # as on ranks that do not measure
    callback.measure(trainer(test=2), data, "test")
    assert {each.clips for each in callback.found} == {4}


@pytest.mark.parametrize("settings", [{"validation": 0}, {"validation": 0.0}])
def test_nothing_where_nothing_is_validated(settings, monkeypatch):
    monkeypatch.setattr("callbacks.nll_report.measure_untrained", lambda *args, **kwargs: pytest.fail("measured"))
    callback = NLLReport()
    callback.measure(trainer(**settings), make_data(), "fit")
    assert callback.found == []


def test_what_fails_costs_a_warning(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("callbacks.nll_report.measure_untrained", fail)
    callback = NLLReport()
    with pytest.warns(UserWarning, match="likelihoods without training: left out: no kernel"):
        callback.measure(trainer(), make_data(), "test")
    assert callback.found == []


def test_data_without_a_training_split_has_no_unigram(monkeypatch):
    def refuse(split):
        raise UserError(f"no recordings for the {split} split")

    callback, data = NLLReport(), make_data()
    monkeypatch.setattr(data, "make_dataset", refuse)
    callback.measure(trainer(), data, "test")
    assert [each.name for each in callback.found] == list(FILTERS)
