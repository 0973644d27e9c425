"""Tests of `train.py predictors`, which measures likelihoods without a run."""

import pytest

from cli import main
from datamodules import SC09
from harmonicrnn.evaluation.untrained import UNIGRAM, measure_untrained
from harmonicrnn.models import Prediction
from harmonicrnn.models.predictors_alone import FILTERS, PREDICTORS
from harmonicrnn.ops.prediction import Predictor
from lightning_modules import HarmonicModule


def rows_of(told):
    """Returns the cells of the table, row by row."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in told.splitlines() if line.startswith("│")]


def test_a_table_of_a_split_without_run_or_training(run, folder, capsys, monkeypatch):
    monkeypatch.setattr(HarmonicModule, "__init__", lambda *args, **kwargs: pytest.fail("a model was built"))
    assert run("predictors --config tiny.yaml --cache kept") == 0
    told = capsys.readouterr().out
    data = SC09(folder / "data", clip_samples=320, batch_size=2, num_workers=0)
    data.setup("test")
    data.read("train")
    found = measure_untrained(data, "test", folder / "other", training=data)
    assert [row[:2] for row in rows_of(told)] == [[each.name, f"{each.bits_per_sample:.4f}"] for each in found]
    assert [name for name, *_ in rows_of(told)] == [*FILTERS, UNIGRAM]
    assert {tuple(row[2:]) for row in rows_of(told)} == {("540", "2")}
    for part in ("SC09, test split", "mu-law 8 bit, scaling clip", "clips of 320 samples"):
        assert part in told
    assert not (folder / "logs").exists()
    assert len(list((folder / "kept").glob("untrained_*.pt"))) == 4
    # The second time it is read from the cache.
    monkeypatch.setattr("harmonicrnn.evaluation.untrained.ClipSums.add", lambda *args: pytest.fail("computed again"))
    assert run("predictors --config tiny.yaml --cache kept") == 0
    assert rows_of(capsys.readouterr().out) == rows_of(told)


def test_other_predictors_are_measured_instead(run, folder, capsys):
    record = "{predictors: [{order: 4, decay: 0.9, every: 2}, {order: 9, decay: 0.99, every: 4}]}"
    assert main(["predictors", "--config", "tiny.yaml", "--cache", "kept", "--prediction", record]) == 0
    data = SC09(folder / "data", clip_samples=320, batch_size=2, num_workers=0)
    data.setup("test")
    data.read("train")
    filters = FILTERS | {PREDICTORS: Prediction([Predictor(4, 0.9, 2), Predictor(9, 0.99, 4)])}
    found = measure_untrained(data, "test", folder / "other", filters=filters, training=data)
    rows = rows_of(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [[each.name, f"{each.bits_per_sample:.4f}"] for each in found]
    assert run("predictors --config tiny.yaml --cache kept") == 0
    others = rows_of(capsys.readouterr().out)
    assert others[0] != rows[0]
    assert others[1:] == rows[1:]
    assert len(list((folder / "kept").glob("untrained_*.pt"))) == 5


def test_of_data_that_is_named_alone(run, folder, capsys):
    assert run("predictors --data Synthetic --data.clips 16 --data.clip_samples 200 --data.num_workers 0 --split validation") == 0
    told = capsys.readouterr().out
    assert {tuple(row[2:]) for row in rows_of(told)} == {("400", "2")}
    assert "Synthetic, validation split" in told


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("", "data"),
        ("--config tiny.yaml --split train", "split"),
        ("--config tiny.yaml --data.root gone", "gone"),
        ("--config tiny.yaml --prediction nothing", "prediction"),
        ('--config tiny.yaml --prediction {"predictors":[]}', "--prediction: prediction needs at least one predictor"),
    ],
    ids=["no data", "split", "root", "no record", "no predictors"],
)
def test_what_is_wrong_is_named(run, folder, capsys, arguments, part):
    assert run(f"predictors {arguments}") == 2
    assert part in capsys.readouterr().err
