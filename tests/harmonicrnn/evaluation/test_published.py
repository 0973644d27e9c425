"""Tests of published results: which rows exist for the data, and when they are comparable."""

import pytest

from datamodules import SC09, Synthetic
from harmonicrnn.evaluation.published import published_rows


class Measured(SC09):
    """Data of SC09 with its published number of test clips, without files."""

    def clip_count(self, split):
        return 4107


Measured.__name__ = "SC09"


def data(**settings):
    return Measured(**settings)


def reasons(data, split="test"):
    rows = published_rows(data, split, {"NLL"}, [])
    assert [row.model for row in rows] == ["SampleRNN", "WaveNet", "SaShiMi", "Mamba U-Net", "Mamba U-Net"]
    return rows[0].reasons["NLL"]


def test_rows_of_the_same_protocol_are_comparable():
    assert reasons(data()) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bits": 6}, "quantiser mu-law 8 bit there, mu-law 6 bit here"),
        ({"law": "linear"}, "quantiser mu-law 8 bit there, linear 8 bit here"),
        ({"scaling": "none"}, "scaling clip there, none here"),
        ({"sample_rate": 8000}, "sample rate 16000 there, 8000 here"),
        ({"clip_samples": 8000}, "clip length 16000 there, 8000 here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_differs_is_said(settings, reason):
    assert reasons(data(**settings)) == [reason]
    (row, *_) = published_rows(data(**settings), "test", {"FID", "AM"}, ["another classifier"])
    assert row.reasons == {"FID": [reason, "another classifier"], "AM": [reason, "another classifier"]}


def test_the_split_must_be_the_whole_test_split(monkeypatch):
    assert reasons(data(), "validation") == ["published on the test split, not validation"]
    monkeypatch.setattr(Measured, "clip_count", lambda self, split: 40)
    assert reasons(data()) == ["4107 test clips there, 40 here"]


def test_other_measures_have_reasons_of_their_own():
    (row, *_) = published_rows(data(), "test", {"NLL", "FID", "IS (tables)"}, ["another classifier"])
    assert row.values == {"NLL": 2.042, "FID": 8.96, "IS (tables)": 1.71}
    assert row.reasons == {"NLL": [], "FID": ["another classifier"], "IS (tables)": ["another classifier"]}


def test_data_without_published_results_has_no_rows():
    assert published_rows(Synthetic(), "test", {"NLL"}, []) == []
    assert published_rows(None, None, {"NLL"}, []) == []
