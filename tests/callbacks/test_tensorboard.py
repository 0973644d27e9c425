"""What a run leaves in TensorBoard, read back."""

import io
import threading

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from callbacks.audio_samples import BUDGET, AudioSamples
from callbacks.forgiving_loggers import UNTRAINED, Curves
from cli import main
from datamodules import SC09
from harmonicrnn.audio import read_mono
from harmonicrnn.evaluation.untrained import measure_untrained
from harmonicrnn.generation import PlainEngine
from tests.audio_files import make_sc09
from tests.cli.conftest import CONFIG

CLIPS = ("reference", "generated", "continuation")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder and the events of a finished run, with 0.002 s (32 samples) drawn after a prompt of 0.001 s."""
    folder = tmp_path_factory.mktemp("run")
    make_sc09(folder / "data")
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train.py"])
        assert main(["fit", "--config", "tiny.yaml", "--ema.decay", "0.5"]) == 0
    version = folder / "logs/tiny/version_0"
    events = EventAccumulator(str(version), size_guidance={"audio": 0, "images": 0, "histograms": 0})
    events.Reload()
    return version, events


def test_curves(run):
    _, events = run
    tags = set(events.Tags()["scalars"])
    assert {"train/bits", "val/bits", "train/gradient_norm", "train/samples_per_second", "z_schedule/lr-AdamW/pg1"} <= tags
    assert "hp_metric" not in tags
    assert [e.step for e in events.Scalars("val/bits")] == [1, 3]
    for tag in ("train/bits", "train/gradient_norm", "train/samples_per_second"):
        assert len(events.Scalars(tag)) == 4
        assert all(np.isfinite(e.value) and e.value > 0 for e in events.Scalars(tag))


def test_what_needs_no_training_is_constant_curves(run):
    """With the unigram of the training split, which has few clips."""
    version, events = run
    data = SC09(version.parents[2] / "data", clip_samples=320, num_workers=0)
    data.setup("fit")
    untrained = measure_untrained(data, "validation", version / "none", training=data)
    known = {UNTRAINED[each.name]: each.bits_per_sample for each in untrained}
    assert list(known) == [f"val/bits_of_{name}" for name in ("linear_predictors", "last_sample", "linear_extrapolation", "unigram")]
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("val/bits_of")} == set(known)
    for tag, bits in known.items():
        points = events.Scalars(tag)
        assert [point.step for point in points] == [0, 2, 4]
        assert [point.value for point in points] == pytest.approx([bits] * 3)


def test_what_is_seen_first_and_last(run):
    """TensorBoard sorts the groups of its first screen by name, opens two, and draws one chart of a tag that several runs have."""
    version, events = run
    tags = events.Tags()
    groups = sorted({tag.split("/")[0] for kind in ("scalars", "images", "histograms") for tag in tags[kind]})
    assert (groups[0], groups[-1]) == ("at_a_glance", "z_schedule")
    assert [tag for tag in tags["scalars"] if tag.startswith("at_a_glance")] == ["at_a_glance/samples_per_second"]
    assert {"z_schedule/epoch", "z_schedule/lr-AdamW/pg1"} <= set(tags["scalars"])
    assert not {"epoch", "lr-AdamW/pg1"} & set(tags["scalars"])
    untrained = {name: f"val/bits_of_{name}" for name in ("linear_predictors", "last_sample", "linear_extrapolation", "unigram")}
    for name, tag in ({"training": "train/bits", "validation": "val/bits"} | untrained).items():
        line = EventAccumulator(str(version / name)).Reload().Scalars("at_a_glance/bits_per_sample")
        assert [(point.step, point.value) for point in line] == [(point.step, point.value) for point in events.Scalars(tag)]


def test_audio(run):
    version, events = run
    lengths = {"reference": 320, "generated": 32, "continuation": 16 + 32}
    for name in CLIPS:
        clips = events.Audio(f"audio/{name}")
        assert [clip.step for clip in clips] == [2, 4]
        for clip in clips:
            samples, rate = soundfile.read(io.BytesIO(clip.encoded_audio_string), dtype="float32")
            assert rate == 16_000
            assert samples.shape == (lengths[name],)
            written = read_mono(version / f"samples/step_{clip.step:07d}/{name}.wav", 16_000)
            np.testing.assert_allclose(samples, written, atol=2 / 32768)
    # What is heard of the reference is the centre of each of its classes' cells.
    data = SC09(version.parents[2] / "data", clip_samples=320, num_workers=0)
    data.setup("fit")
    expected = data.quantiser.decode_centre(data.clip("validation", 0).classes)
    heard = read_mono(version / "samples/step_0000002/reference.wav", 16_000)
    np.testing.assert_allclose(heard, expected, atol=1 / 32768)
    decode = [soundfile.read(io.BytesIO(events.Audio(f"audio/{name}")[0].encoded_audio_string))[0] for name in CLIPS]
    assert np.array_equal(decode[2][:16], decode[0][:16])


def test_pictures(run):
    _, events = run
    for kind in ("waveform", "mel"):
        for name in CLIPS:
            images = events.Images(f"{kind}/{name}")
            assert [image.step for image in images] == [2, 4]
            pixels = matplotlib.image.imread(io.BytesIO(images[-1].encoded_image_string), format="png")
            assert pixels.std() > 0.02


def test_likelihood_by_position(run):
    _, events = run
    images = events.Images("val/bits_by_position")
    assert len(images) == 2
    assert matplotlib.image.imread(io.BytesIO(images[-1].encoded_image_string), format="png").std() > 0.02


def test_histograms(run):
    _, events = run
    for level in (0, 1):
        modulus = events.Histograms(f"recurrence/level_{level}/modulus_per_step")[-1].histogram_value
        angle = events.Histograms(f"recurrence/level_{level}/angle_radians_per_step")[-1].histogram_value
        assert 0 < modulus.min <= modulus.max < 1
        assert 0 <= angle.min <= angle.max <= 0.2 * np.pi
        assert modulus.num == angle.num > 0


def test_the_length_drawn_by_default_fits_the_budget(monkeypatch):
    """With a clock on which each sample takes 10 ms, 100 s after the last validation, the two clips take 5 s."""
    now = [1000.0]
    callback = AudioSamples()
    callback._last_end = 900.0
    monkeypatch.setattr("callbacks.audio_samples.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("callbacks.audio_samples.generate", lambda net, samples, **_: now.__setitem__(0, now[0] + 0.01 * samples))
    engine = PlainEngine(torch.nn.Identity())
    samples = callback._affordable(torch.nn.Identity(), engine, 16_000, 100_000)
    # A first sample, on which the engine may be compiled, is not counted.
    assert 2 * samples * 0.01 + 0.16 <= BUDGET * 100
    assert samples > 200
    callback._last_end = now[0]
    assert callback._affordable(torch.nn.Identity(), engine, 16_000, 100_000) == 0


def test_a_writer_that_fails_while_it_is_made_prints_no_traceback(tmp_path, monkeypatch, capsys):
    class Failing(_AsyncWriterThread):
        def __init__(self):
            threading.Thread.__init__(self)

        def run(self):
            raise OSError("no space left")

    def fails_at_once(self):
        thread = Failing()
        thread.start()
        thread.join()

    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(Curves, "_writer", fails_at_once)
    Curves(tmp_path, "", "version_0").experiment.add_scalar("bits", 1.0, 0)
    assert "no space left" not in capsys.readouterr().err
