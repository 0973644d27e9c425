"""Tests of the evaluation by the digit classifier: scores with intervals, accuracy, cached statistics and published protocols."""

import numpy as np
import pytest
import torch

from datamodules import SC09
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import SplitClips
from harmonicrnn.evaluation.digit_evaluation import MEASURES, accuracy_of, score, training_reference, why_not_published
from harmonicrnn.metrics import Classified, digit_reference, digit_scores
from tests.audio_files import make_sc09
from tests.harmonicrnn.evaluation.test_intervals import resampled


class Loudness:
    """Stands for a trained classifier: its output depends on the loudness of four parts of a clip."""

    name, rate, weights, accuracy = "loudness", 16_000, {"loudness.ckpt": "0"}, 0.5
    calls = 0

    def __call__(self, clips, progress=lambda clips: None):
        clips = list(clips)
        progress(len(clips))
        type(self).calls += len(clips)
        features = torch.stack([torch.stack([part.square().mean() for part in clip.tensor_split(4)]) for clip in clips])
        return Classified(features, (features @ torch.linspace(-9, 9, 40).view(4, 10)).double().log_softmax(dim=1))

    def why_not_beside_the_tables(self, accuracy):
        return None if accuracy > 0.9 else "another classifier"


@pytest.fixture
def clips(tmp_path):
    data = SC09(make_sc09(tmp_path / "data"), clip_samples=320, num_workers=0)
    data.setup("fit")
    return SplitClips(data, "train")


def test_scores_are_those_of_the_metrics_with_intervals_of_a_direct_bootstrap(clips):
    seen = Loudness()(clips)
    reference = digit_reference(Classified(*(rows[::2] for rows in seen)))
    found, expected = score(seen, reference, seed=3), digit_scores(seen, reference)
    assert list(found) == list(MEASURES)
    assert [cell.value for cell in found.values()] == list(expected.values())
    rows = [digit_scores(Classified(*(rows[np.sort(drawn)] for rows in seen)), reference) for drawn in resampled(20, 3, 200)]
    for title, name in (("IS", "is"), ("IS (tables)", "is_s4"), ("mIS", "mis"), ("AM", "am")):
        assert found[title].interval == pytest.approx(np.percentile([row[name] for row in rows], (2.5, 97.5)), rel=1e-9)
    distances = np.array([row["fid"] for row in rows])
    around = np.percentile(distances, (2.5, 97.5)) + expected["fid"] - distances.mean()
    assert found["FID"].interval == pytest.approx(around.clip(min=0), rel=1e-5)


def test_the_training_split_is_classified_once(clips, tmp_path):
    Loudness.calls = 0
    reference, scores = training_reference(clips, Loudness(), tmp_path / "kept", seed=0)
    again, same = training_reference(clips, Loudness(), tmp_path / "kept", seed=0)
    assert Loudness.calls == len(clips) == 20
    assert same == scores
    (path,) = (tmp_path / "kept").iterdir()
    assert torch.load(path)["key"]["format"] == 1
    assert torch.equal(again.features.covariance, reference.features.covariance)
    assert torch.equal(again.probabilities, reference.probabilities)
    assert scores["FID"].value == pytest.approx(0, abs=1e-9)


def test_a_score_that_is_not_finite_is_named(clips):
    """Clips are of two kinds, each certain of a digit to which the other gives no probability: mIS is e to some thousands."""
    seen = Classified(torch.randn(40, 2), torch.tensor([[0.0, -5000], [-5000, 0]]).repeat(20, 1).double())
    with pytest.raises(UserError, match="mIS is inf"):
        score(seen, digit_reference(seen))


def test_accuracy_is_by_the_folders_of_the_recordings(clips):
    digits = torch.tensor([path.parent.name == "three" for path in clips.data.files()["train"]])
    said = torch.full((20, 10), -50.0)
    said[:, 3] = 0
    assert accuracy_of(Classified(torch.zeros(20, 1), said), clips.data.labels("train")) == digits.double().mean() == 0.1


def test_scores_stand_beside_published_ones_under_their_protocol_alone():
    assert why_not_published(Loudness(), 0.98, 31_158, 10_240) == []
    assert why_not_published(Loudness(), 0.98, 31_158, 10_240, 0.9, 0.5) == [
        "drawn at temperature 1 there, 0.9 here",
        "drawn at top_p 1 there, 0.5 here",
    ]
    found = why_not_published(Loudness(), 0.5, 20, 256)
    assert found == ["another classifier", "10240 clips drawn there, 256 here", "31158 training clips there, 20 here"]
