"""Tests of the FAD callback: values, logged records, wrong settings, two ranks and cached reference statistics."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.frechet_audio_distance import FrechetAudioDistance
from cli import main
from datamodules import SC09, Synthetic
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import SplitClips
from harmonicrnn.evaluation.distance import reference_gaussian
from harmonicrnn.generation import generate
from harmonicrnn.metrics import Gaussian, LogMel, frechet_distance
from harmonicrnn.models import LevelSpec
from lightning_modules import HarmonicModule
from tests.audio_files import make_sc09
from tests.cli.conftest import CONFIG, without_pictures
from tests.harmonicrnn.parallel.ranks import Ranks
from tests.helpers import F64, relative_error

FIT = "fit --config tiny.yaml --fad.clips 5 --fad.batch_size 2 --fad.every 3 --fad.cache kept --ema.decay 0.5"
FIT += " --samples.sample_seconds 0"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder of a run with two validations, resumed for two more, and tested."""
    folder = tmp_path_factory.mktemp("run")
    make_sc09(folder / "data")
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train.py"])
        without_pictures(patch)
        assert main(FIT.split()) == 0
        assert not (folder / "logs/tiny/version_0/fad").exists()
        assert main([*FIT.split(), "--ckpt_path", "last", "--trainer.max_steps", "6"]) == 0
        assert main(["test"]) == 0
    return folder


def fitted(rows):
    return Gaussian(rows.double().mean(dim=0), torch.cov(rows.double().T), torch.tensor(len(rows)))


def test_is_the_distance_of_the_generated_clips_from_the_split_at_every_third_validation(run):
    version = run / "logs/tiny/version_0"
    (path,) = (version / "fad").iterdir()
    assert path.name == "step_0000006.json"
    record = json.loads(path.read_text())
    # The weights in a checkpoint are the averaged ones.
    module = HarmonicModule.load_from_checkpoint(version / "checkpoints/last.ckpt").eval()
    drawn = [generate(module.net, 320, clips, seed=batch << 32) for batch, clips in enumerate((2, 2, 1))]
    data = SC09(run / "data", clip_samples=320, num_workers=0)
    data.setup("fit")
    real = [data.quantiser.decode_centre(clip.classes[clip.valid]) for clip in (data.clip("validation", i) for i in range(3))]
    embedder = LogMel(16_000)
    generated = fitted(torch.cat(embedder(list(module.quantiser.decode_centre(torch.cat(drawn))))))
    expected = frechet_distance(generated, fitted(torch.cat(embedder(real))))
    assert record["distance"] == pytest.approx(expected, rel=1e-6)
    assert expected > 1
    events = EventAccumulator(str(version))
    events.Reload()
    assert [e.value for e in events.Scalars("val/fad_logmel")] == [pytest.approx(expected, rel=1e-5)]


def test_the_record_says_what_the_number_depends_on(run):
    record = json.loads((run / "logs/tiny/version_0/fad/step_0000006.json").read_text())
    assert record["embedding"] == {"name": "logmel", "rate": 16_000, "dimensions": 64, "weights": {}}
    assert record["generated"] == {"samples": 320, "seed": 0, "batch_size": 2}
    assert (record["clips"], record["embeddings"]) == (5, 5)
    assert record["interval"][0] <= record["distance"] <= record["interval"][1]
    assert record["reference"]["split"] == "validation"
    assert record["reference"]["clips"] == record["reference"]["embeddings"] == 3
    assert "mu-law 8 bit" in record["reference"]["protocol"]
    assert [note.split(":")[0] for note in record["notes"]] == ["its clips", "reference"]
    assert "5 embeddings of 64 dimensions" in record["notes"][0]


def test_wrong_settings_are_refused(run, monkeypatch, capsys):
    monkeypatch.chdir(run)
    monkeypatch.setattr("sys.argv", ["train.py"])
    for key, value in (("clips", 1), ("clips", -1), ("every", 0), ("batch_size", 0)):
        with pytest.raises(ValueError, match=f"fad.{key}"):
            FrechetAudioDistance(**{key: value})
    assert main([*FIT.split(), "--fad.clips", "1"]) == 2
    assert "fad.clips must be 0 for none, or at least 2, got 1" in capsys.readouterr().err
    # Fails before the logger makes a folder.
    assert main([*FIT.split(), "--fad.embedding", "pann", "--fad.weights", "weights"]) == 2
    assert "weights/Cnn14_16k_mAP%3D0.438.pth: is missing" in capsys.readouterr().err
    assert [path.name for path in (run / "logs/tiny").iterdir()] == ["version_0"]


def test_nothing_is_computed_by_default(run, monkeypatch):
    from cli import training_cli

    monkeypatch.chdir(run)
    trainers = []
    monkeypatch.setattr(training_cli.HarmonicCLI, "_run_subcommand", lambda self, name: trainers.append(self.trainer))
    assert main(["fit", "--config", "tiny.yaml"]) == 0
    assert main(FIT.split()) == 0
    found = [sum(isinstance(callback, FrechetAudioDistance) for callback in trainer.callbacks) for trainer in trainers]
    assert found == [0, 1]


def trainer_of(data, rank=0, ranks=1):
    """Returns a stand-in trainer with the attributes that the callback reads."""
    places = {"global_rank": rank, "world_size": ranks, "is_global_zero": rank == 0}
    return SimpleNamespace(datamodule=data, global_step=7, **places)


def module():
    torch.manual_seed(0)
    return HarmonicModule(preset="griffin", levels=(LevelSpec(8, 1),), heads=2, sample_rate=8000).eval()


def synthetic(clips=24, **settings):
    return Synthetic(clips, clip_samples=1000, sample_rate=8000, num_workers=0, **settings)


def measured(folder, rank=0, ranks=1, split="test", **settings):
    callback = FrechetAudioDistance(split=split, cache=folder, batch_size=2, **settings)
    trainer = trainer_of(synthetic(8 * 17), rank, ranks)
    callback.on_fit_start(trainer, module())
    return callback.measure(trainer, module())


def on_a_rank(folder):
    return measured(folder, dist.get_rank(), dist.get_world_size(), clips=5, extrapolate=True)


def test_two_ranks_measure_what_one_does(tmp_path):
    """Two ranks share 17 clips in three batches, unevenly, and one cache file. Takes the time to start two processes."""
    ranks = Ranks()
    try:
        first, second = ranks.run(2, on_a_rank, tmp_path / "two")
    finally:
        ranks.stop()
    alone = measured(tmp_path / "one", clips=5, extrapolate=True)
    assert first == second
    assert first["distance"] == pytest.approx(alone.pop("distance"), rel=1e-6)
    assert first["distance"] > 1
    assert first.pop("interval") == pytest.approx(alone.pop("interval"), rel=1e-6)
    del first["distance"]
    assert first == alone
    assert [path.name for path in (tmp_path / "two").iterdir()] == [path.name for path in (tmp_path / "one").iterdir()]


def test_extrapolation_is_beside_the_distance(tmp_path):
    """Uses an embedding of two dimensions, for which a few clips are enough."""

    class Small(LogMel):
        def __init__(self):
            super().__init__(8000)
            self.dimensions = 2

        def embed(self, batch):
            return super().embed(batch)[:, :, :2]

    callback = FrechetAudioDistance(clips=20, batch_size=20, cache=tmp_path, extrapolate=True)
    trainer = trainer_of(synthetic(80))
    trainer.datamodule.setup("validate")
    callback._embedder = Small()
    callback.on_fit_start(trainer, module())
    record = callback.measure(trainer, module())
    assert record["notes"] == []
    assert 0 <= record["infinity"]["r_squared"] <= 1
    limit, slope = record["infinity"]["distance"], record["infinity"]["slope"]
    assert limit + slope / 20 == pytest.approx(record["distance"], rel=0.2)


def statistics(folder, data):
    data.setup("validate")
    return reference_gaussian(SplitClips(data, "validation"), LogMel(8000), folder)


def test_the_reference_is_computed_once_for_each_data_and_protocol(tmp_path, monkeypatch):
    expected = statistics(tmp_path, synthetic())
    (path,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(LogMel, "embed", None)
        again = statistics(tmp_path, synthetic())
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    for other in (synthetic(32), synthetic(seed=1), synthetic(bits=6), synthetic(scaling="none")):
        assert not torch.equal(statistics(tmp_path, other).mean, expected.mean)
    assert len(list(tmp_path.iterdir())) == 5
    assert path.is_file()


def test_a_recording_that_changed_is_noticed(tmp_path):
    def made(samples):
        data = SC09(make_sc09(tmp_path / "data", samples=samples), clip_samples=320, sample_rate=8000, num_workers=0)
        return statistics(tmp_path / "kept", data).mean

    first = made(640)
    assert torch.equal(made(640), first)
    assert not torch.equal(made(700), first)


@pytest.mark.parametrize("damage", ["cut", "other numbers", "not ours"])
def test_damaged_statistics_are_computed_again(tmp_path, damage):
    expected = statistics(tmp_path, synthetic())
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "not ours":
        torch.save([1, 2], path)
    else:
        kept = torch.load(path)
        kept["mean"][3] += 1
        torch.save(kept, path)
    with pytest.warns(UserWarning, match="is damaged"):
        again = statistics(tmp_path, synthetic())
    assert relative_error(again.covariance, expected.covariance) < F64
    assert relative_error(statistics(tmp_path, synthetic()).mean, expected.mean) < F64


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be kept there"):
        fit = statistics(tmp_path / "file", synthetic())
    assert fit.size == 3


def test_a_split_of_one_clip_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"Synthetic, validation split: .* at least two embeddings, and there are 1"):
        statistics(tmp_path, synthetic(8))
