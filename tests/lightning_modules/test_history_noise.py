"""Tests of noise on the model's input in training."""

import lightning as L
import pytest
import torch

from datamodules import Batch
from harmonicrnn.audio import Quantiser
from harmonicrnn.models import LevelSpec, sample_nats
from lightning_modules import HarmonicModule
from lightning_modules.history_noise import CLEAN, LOWEST, TONAL, with_noise

LEVELS = [LevelSpec(8, 1, 2), LevelSpec(8, 1)]
QUANTISER = Quantiser(12, "linear")


def heard(classes, highest=-20.0, seed=0):
    return with_noise(classes, QUANTISER, highest, range(seed, seed + len(classes)))


def test_levels_and_clean_clips():
    """The input is silence: some clips stay clean, the others get noise up to the highest level, which varies along the clip."""
    silence = torch.full((400, 512), 2048, dtype=torch.int16)
    noisy = heard(silence)
    assert noisy.dtype == silence.dtype
    samples = QUANTISER.decode_centre(noisy) - QUANTISER.decode_centre(silence)
    clean = (noisy == silence).all(dim=1)
    assert clean.float().mean().item() == pytest.approx(CLEAN, abs=0.08)
    levels = 20 * samples[~clean].view(-1, 8, 64).std(dim=2).clamp(min=1e-9).log10()
    assert -23 < levels.max() < -15
    assert (levels.max(dim=1).values - levels.min(dim=1).values).median() > 15
    assert levels.median() == pytest.approx((LOWEST - 20) / 2, abs=10)


def test_some_clips_have_tones_one_after_the_other():
    silence = torch.full((400, 4096), 2048, dtype=torch.int16)
    noise = QUANTISER.decode_centre(heard(silence, 0.0)) - QUANTISER.decode_centre(silence)
    loud = noise.view(400, 8, 512)
    loud = loud / loud.std(dim=2, keepdim=True).clamp(min=1e-9)
    power = torch.fft.rfft(loud * torch.hann_window(512)).abs().square()
    share = (power.topk(3, dim=2).values.sum(dim=2) / power.sum(dim=2)).median(dim=1).values
    noisy = noise.abs().amax(dim=1) > 0.05
    assert (share[noisy] > 0.8).float().mean().item() == pytest.approx(TONAL, abs=0.1)
    assert ((share > 0.8) | (share < 0.2))[noisy].all()
    tones = power[noisy & (share > 0.8)].argmax(dim=2)
    assert tones.float().mean() == pytest.approx(128, abs=15)  # all frequencies
    assert (tones[:, 1:] != tones[:, :-1]).float().mean() > 0.95


def test_the_same_again_and_another_with_another_seed():
    classes = torch.randint(0, 4096, (8, 64))
    assert torch.equal(heard(classes), heard(classes))
    assert not torch.equal(heard(classes), heard(classes, seed=100))
    assert 0 <= heard(classes, 0.0).min() <= heard(classes, 0.0).max() < 4096


def test_training_hears_noise_and_predicts_the_clip_as_it_is(monkeypatch):
    """The loss is that of the clean clip after the noisy past; evaluation and other steps get other input."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    torch.manual_seed(0)
    module = HarmonicModule(history_noise=-10.0, preset="griffin", levels=LEVELS, heads=2, groups=2, bits=5)
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu")
    classes = torch.randint(32, (8, 60))
    batch = Batch(classes, torch.ones_like(classes, dtype=torch.bool), torch.arange(8))
    noisy = module._heard(batch, "train")
    assert (noisy != classes).float().mean() > 0.1
    assert torch.equal(noisy, module._heard(batch, "train"))
    others = module._heard(batch._replace(clip=batch.clip + 8), "train")  # same step, as gradients are accumulated
    assert not torch.equal(noisy, others)
    assert module._heard(batch, "evaluation") is None
    expected = sample_nats(module(noisy)[0], classes).mean()
    assert module.training_step(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert module.validation_step(batch).mean().item() == pytest.approx(sample_nats(module(classes)[0], classes).mean().item(), rel=1e-5)
    assert "history_noise" not in module.hparams


@pytest.mark.parametrize("highest", [1.0, -80.0, float("nan")])
def test_refuses_levels_out_of_range(highest):
    with pytest.raises(ValueError, match=r"model\.history_noise must be above -80 dB and at most 0 dB"):
        HarmonicModule(history_noise=highest)
