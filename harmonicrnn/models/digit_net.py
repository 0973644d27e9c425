"""DigitNet, a classifier of spoken digits: from 1 s of audio to a log-mel spectrogram to ten logits."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from harmonicrnn.models.resnext import ResNeXt

CLASSES = 10
RATE = 16_000
SAMPLES = 16_000
BANDS = 32
FLOOR = 1e-10  # of the power
DYNAMIC_RANGE = 80.0  # dB


class LogMelSpectrogram(nn.Module):
    """Mel spectrogram in dB below its maximum, with 32 bands and 32 frames per second; independent of the level of a clip.

    Equals the input of the S4/SaShiMi repository's classifier: librosa's `melspectrogram` and `power_to_db(ref=max)` with the defaults of
    version 0.8, which reflects the audio at its ends (0.9 and later pad with zeros).
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrogram(RATE, 2048, hop_length=512, n_mels=BANDS, norm="slaney", mel_scale="slaney", pad_mode="reflect")

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, T) at 16 kHz, cut or padded with silence to 1 s, to (B, 32, 32) in [-80, 0]."""
        power = self.mel(F.pad(audio, (0, SAMPLES - audio.shape[1]))).clamp(min=FLOOR)
        loudest = power.amax(dim=(1, 2), keepdim=True)
        return (10 * (power / loudest).log10()).clamp(min=-DYNAMIC_RANGE)


class DigitNet(nn.Module):
    """A ResNeXt on the log-mel spectrogram of 1 s of speech.

    Args:
        stem, widths, blocks, cardinality, group_width, hidden: as in `harmonicrnn.models.ResNeXt`.
    """

    def __init__(self, stem: int, widths: Sequence[int], blocks: int, cardinality: int, group_width: int, hidden: int | None) -> None:
        super().__init__()
        self.spectrogram = LogMelSpectrogram()
        self.resnext = ResNeXt(CLASSES, stem, widths, blocks, cardinality, group_width, hidden)
        self.dimensions = self.resnext.classifier.in_features

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (B, d) and logits (B, 10) of the first second of audio (B, T) at 16 kHz."""
        with torch.no_grad():
            images = self.spectrogram(audio)
        features, logits = self.resnext(images[:, None].contiguous(memory_format=torch.channels_last))  # twice as fast on a CPU
        return features, logits
