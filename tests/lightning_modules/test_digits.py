"""Tests of the digit classifier: labels, training data, and the accuracy stored in checkpoints."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from cli import main
from datamodules import SC09Digits
from datamodules.sc09 import DIGITS
from harmonicrnn.checkpoints import DIGIT_ACCURACY as ACCURACY
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.digit_classifier import load_digit_classifier
from lightning_modules import DigitModule
from lightning_modules.digit_module import in_noise, moved
from tests.audio_files import make_sc09
from tests.helpers import relative_error

RATE = 16_000
CONFIG = """
seed_everything: 1
model:
  class_path: lightning_modules.DigitModule
  init_args: {{stem: 4, widths: [8, 8], blocks: 1, cardinality: 2, optimizer: {{lr: 0.02}}}}
data:
  class_path: datamodules.SC09Digits
  init_args: {{root: {root}, batch_size: 10, num_workers: 0}}
trainer:
  max_steps: 4
  val_check_interval: 2
  check_val_every_n_epoch: null
  log_every_n_steps: 1
  enable_progress_bar: false
  logger: {{init_args: {{name: digits}}}}
"""


def make_digits(root, train=2, others=1):
    """Writes chords that differ by digit: some training, validation and test clips of each."""
    rng, t = np.random.default_rng(0), np.arange(RATE // 2) / RATE
    listed = {"validation_list.txt": [], "testing_list.txt": []}
    for digit, name in enumerate(DIGITS):
        (root / name).mkdir(parents=True)
        for i in range(train + 2 * others):
            pitch = 200 * 1.35**digit * rng.uniform(0.97, 1.03)
            clip = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in (1, 2, 3)) * np.exp(-4 * t) / 4 + rng.normal(0, 0.001, len(t))
            soundfile.write(root / name / f"{i}.wav", clip, RATE)
            if i >= train:
                listed[list(listed)[i % 2]].append(f"{name}/{i}.wav")
    for name, lines in listed.items():
        (root / name).write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns a folder with data and a run of a small classifier trained on it."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "digits.yaml").write_text(CONFIG.format(root=make_digits(folder / "data")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train.py"])
        assert main(["fit", "--config", "digits.yaml"]) == 0
    return folder


def checkpoint_of(folder):
    return folder / "logs/digits/version_0/checkpoints/best.ckpt"


def test_labels_are_the_folders_of_the_recordings(tmp_path):
    """Each clip has a label: a recording of two clips gives two."""
    data = SC09Digits(make_sc09(tmp_path), clip_samples=200, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    assert data.labels("train").bincount().tolist() == [4] * 10
    assert data.labels("validation").tolist() == [1, 1, 2, 2, 0, 0]  # in order of the folders' names: one, two, zero
    assert data.labels("test").tolist() == [4, 4, 3, 3]
    batch = next(iter(data.train_dataloader()))
    names = [data.datasets["train"].source.entries[i // 2].source.split("/")[0] for i in batch.clip.tolist()]
    assert [DIGITS[label] for label in data.labels("train")[batch.clip]] == names


def test_a_checkpoint_keeps_the_accuracy_of_its_weights(trained, monkeypatch, capsys):
    """It equals the accuracy of `test` and that of the loaded classifier."""
    path = checkpoint_of(trained)
    checkpoint = torch.load(path, weights_only=True)
    kept = checkpoint[ACCURACY]
    assert kept.keys() == {"validation", "test"}
    monkeypatch.chdir(trained)
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert main(["test"]) == 0
    printed = capsys.readouterr().out
    assert "test/accuracy" in printed
    assert f"{kept['test']:.2f}" in printed
    classifier = load_digit_classifier(path)
    assert classifier.accuracy == kept["test"]
    assert (classifier.published, classifier.dimensions, classifier.name) == (False, 64, "harmonicrnn resnext")
    assert "another classifier" in classifier.why_not_beside_the_tables(0.9808)
    data = SC09Digits(trained / "data", num_workers=0)
    data.setup("test")
    classified = classifier([data.audio("test", i) for i in range(10)])
    assert classified.features.shape == (10, 64)
    assert relative_error(classified.log_probabilities.exp().sum(dim=1), torch.ones(10, dtype=torch.float64)) < 1e-12
    found = (classified.log_probabilities.argmax(dim=1) == data.labels("test")).double().mean()
    assert found.item() == pytest.approx(kept["test"])


def test_a_checkpoint_between_validations_has_no_accuracy():
    module = DigitModule(stem=4, widths=(8,), blocks=1)
    module.measured, module.measured_at = {"validation": 0.5, "test": 0.25}, 2
    for step, kept in ((2, module.measured), (3, {})):
        checkpoint = {"global_step": step}
        module.on_save_checkpoint(checkpoint)
        assert checkpoint[ACCURACY] == kept


def test_the_checkpoint_of_another_model_is_refused(trained, tmp_path):
    checkpoint = torch.load(checkpoint_of(trained), weights_only=True)
    del checkpoint[ACCURACY]
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: is of another model"):
        load_digit_classifier(tmp_path / "other.ckpt")


def test_clips_that_cannot_be_classified_are_refused(trained):
    classifier = load_digit_classifier(checkpoint_of(trained))
    assert classifier([]).features.shape == (0, 64)
    with pytest.raises(UserError, match="clip 1 has no samples"):
        classifier([torch.zeros(5), torch.zeros(0)])
    with pytest.raises(UserError, match="clip 0 has samples that are not finite"):
        classifier([torch.tensor([0.0, float("nan")])])


def test_data_without_labels_or_at_another_rate_is_refused(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert main(["fit", "--config", "digits.yaml", "--data.class_path", "datamodules.SC09"]) == 2
    assert "must be datamodules.SC09Digits" in capsys.readouterr().err
    for setting, value, message in (("sample_rate", "8000", "must be 16000"), ("order", "crops", "must be clips where clips have labels")):
        assert main(["fit", "--config", "digits.yaml", f"--data.{setting}", value]) == 2
        assert message in capsys.readouterr().err


def test_lanes_that_rest_count_for_nothing(trained):
    """The last batch does not fill all ranks: accuracy and loss are the same as without the idle lanes."""
    module = DigitModule.load_from_checkpoint(checkpoint_of(trained)).eval()
    data = SC09Digits(trained / "data", num_workers=0, batch_size=10)
    data.setup("test")
    module._labels = {"test": data.labels("test")}
    batch = next(iter(data.test_dataloader()))
    measured = []
    for rests in (0, 4):
        lanes = torch.arange(10 + rests).clamp(max=9)
        padded = batch._replace(
            classes=batch.classes[lanes], valid=batch.valid[lanes], clip=torch.where(torch.arange(10 + rests) < 10, batch.clip[lanes], -1)
        )
        with torch.no_grad():
            module.test_step(padded, 0)
        measured.append((module.accuracy["test"].compute().item(), module.loss["test"].compute().item()))
        module.accuracy["test"].reset()
        module.loss["test"].reset()
    assert measured[1] == pytest.approx(measured[0])


def test_augmentation_shifts_and_changes_the_speed(monkeypatch):
    """Compares with linear interpolation, with silence before the beginning and after the end."""
    audio = torch.randn(3, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    draws = torch.tensor([[[0.5], [1.0], [0.0]], [[0.5], [0.51], [0.49]]])
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: draws)
    changed = moved(audio)
    assert torch.equal(changed[0], audio[0])
    for lane, (speed, shift) in enumerate([(0, 0), (0.15, 32), (-0.15, -32)]):
        place = (np.arange(400) - shift) * (1 + speed)
        expected = np.interp(place, np.arange(-1, 401), np.pad(audio[lane].numpy(), 1))
        assert relative_error(changed[lane].double(), torch.from_numpy(expected)) < 1e-3
    assert (changed[1, :30] == 0).all()
    assert (changed[1, 40:] != 0).any()


def test_noise_is_at_the_ratios_that_are_said():
    """About three of ten clips get noise at 0 to 15 dB below their power; the others are unchanged."""
    torch.manual_seed(0)
    audio = torch.linspace(0.01, 1, 200)[:, None] * torch.randn(200, 4000)
    noise = in_noise(audio) - audio
    ratios = -10 * (noise.square().mean(dim=1) / audio.square().mean(dim=1)).log10()
    noisy = ratios.isfinite()
    assert (noise[~noisy] == 0).all()
    assert noisy.float().mean().item() == pytest.approx(0.3, abs=0.1)
    assert ratios[noisy].min() > -0.5
    assert ratios[noisy].max() < 15.5
    assert ratios[noisy].std() > 3


def test_it_learns():
    """Distinguishes ten pitches after a few steps; chance is 0.1."""
    torch.manual_seed(0)
    module, t = DigitModule(stem=8, widths=(8, 16), blocks=1, cardinality=2), torch.arange(8000) / RATE
    audio = torch.sin(2 * torch.pi * 100 * 1.55 ** torch.arange(10)[:, None] * t) * torch.exp(-4 * t) / 4
    optimizer, labels = torch.optim.Adam(module.parameters(), 0.02), torch.arange(10)
    for _ in range(20):
        logits = module(audio)[1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert (module(audio)[1].argmax(dim=1) == labels).float().mean() >= 0.9


def test_a_run_that_goes_wrong_is_stopped():
    module = DigitModule(stem=4, widths=(8,), blocks=1)
    module._labels = {"train": torch.arange(2)}
    batch = SimpleNamespace(classes=torch.zeros(2, 16_000), valid=torch.ones(2, 16_000), clip=torch.arange(2))
    module.net.resnext.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss is nan at step 0: lower model\.optimizer\.lr"):
        module.training_step(batch, 0)
