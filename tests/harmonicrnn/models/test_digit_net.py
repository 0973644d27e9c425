"""Tests of the digit classifier: log-mel spectrogram, features, gradients and the ResNeXt stages."""

import numpy as np
import pytest
import torch

from harmonicrnn.models.digit_net import DigitNet, LogMelSpectrogram, ResNeXt
from tests.helpers import relative_error

SMALL = {"stem": 4, "widths": (8, 16, 24), "blocks": 2, "cardinality": 2, "group_width": 4}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["steady", "half silent", "quiet"])
def test_the_spectrogram_is_that_of_librosa(kind):
    import librosa  # takes seconds

    audio = 0.1 * noise(16_000)
    if kind == "half silent":
        audio[8000:] = 0
    if kind == "quiet":
        audio *= 1e-4
    power = librosa.feature.melspectrogram(y=audio.numpy().astype(np.float64), sr=16_000, n_mels=32, pad_mode="reflect")
    expected = torch.from_numpy(librosa.power_to_db(power, ref=np.max))
    spectrogram = LogMelSpectrogram()(audio[None])
    assert spectrogram.shape == (1, 32, 32)
    assert relative_error(spectrogram[0].double(), expected) < 1e-5
    assert (expected.min() == -80) == (kind == "half silent")


def test_the_spectrogram_hears_a_second_and_no_loudness():
    audio, heard = 0.1 * noise(2, 16_000), LogMelSpectrogram()
    assert torch.equal(heard(torch.cat([audio, noise(2, 500)], dim=1)), heard(audio))
    assert torch.equal(heard(audio[:, :9000]), heard(torch.cat([audio[:, :9000], torch.zeros(2, 7000)], dim=1)))
    assert relative_error(heard(0.25 * audio), heard(audio)) < 1e-5
    assert torch.equal(heard(torch.zeros(1, 16_000)), torch.zeros(1, 32, 32))


def test_features_are_what_the_classifier_takes():
    """It takes 64 after a hidden layer, or as many as the width of the last stage without one."""
    for hidden, dimensions in ((64, 64), (None, 24)):
        net = DigitNet(**SMALL, hidden=hidden).eval()
        features, logits = net(0.1 * noise(3, 16_000))
        assert features.shape == (3, dimensions) == (3, net.dimensions)
        assert (features >= 0).all()
        assert relative_error(net.resnext.classifier(features), logits) == 0


def test_clips_do_not_depend_on_one_another():
    net, audio = DigitNet(**SMALL, hidden=8).eval(), 0.1 * noise(4, 16_000)
    together, alone = net(audio)[1], torch.cat([net(clip[None])[1] for clip in audio])
    assert relative_error(together, alone) < 1e-4


def test_gradients_reach_all_weights():
    net = ResNeXt(10, **SMALL, hidden=8).double()
    net(noise(4, 1, 16, 16).double())[1].logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_stages_halve_the_image():
    net, shapes = ResNeXt(10, **SMALL), []
    for stage in net.stages:
        stage.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
    net(noise(2, 1, 32, 32))
    assert shapes == [(8, 32, 32), (16, 16, 16), (24, 8, 8)]
    assert [stage[0].grouped.groups for stage in net.stages] == [2, 2, 2]
    assert [stage[0].grouped.out_channels for stage in net.stages] == [8, 16, 24]
