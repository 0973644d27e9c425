"""DigitNet, a classifier of spoken digits: from 1 s of audio to a log-mel spectrogram to ten logits, by a ResNeXt for small images.

ResNeXt (Xie et al., arXiv 1611.05431): residual bottlenecks with grouped convolutions. Legend: B batch, H and W height and width of the
image, C classes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

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


class Bottleneck(nn.Module):
    """A residual block: 1 x 1 convolution to the inner width, grouped 3 x 3 convolution, 1 x 1 convolution to the outer width.

    Args:
        inputs: channels of x.
        width: channels of the output.
        inner: channels between.
        cardinality: groups.
        stride: of the 3 x 3 convolution.
    """

    def __init__(self, inputs: int, width: int, inner: int, cardinality: int, stride: int) -> None:
        super().__init__()
        self.reduce, self.reduce_norm = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.grouped = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.grouped_norm = nn.BatchNorm2d(inner)
        self.expand, self.expand_norm = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut, self.shortcut_norm = None, None
        if inputs != width or stride > 1:
            self.shortcut, self.shortcut_norm = nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, width, H/stride, W/stride)."""
        y = F.relu(self.reduce_norm(self.reduce(x)))
        y = F.relu(self.grouped_norm(self.grouped(y)))
        y = self.expand_norm(self.expand(y))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return F.relu(x + y)


class ResNeXt(nn.Module):
    """A 3 x 3 convolution, stages of bottlenecks (all but the first halve the image), mean pooling, and a linear classifier.

    Args:
        classes: C.
        stem: channels of the first convolution.
        widths: channels of the stages.
        blocks: bottlenecks in each stage.
        cardinality: groups of their inner convolution.
        group_width: channels of each group in the first stage; they grow with the widths.
        hidden: width of a last hidden layer before the classifier; None for none.
    """

    def __init__(
        self, classes: int, stem: int, widths: Sequence[int], blocks: int, cardinality: int, group_width: int, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        self.stages = nn.ModuleList()
        for i, (inputs, width) in enumerate(pairwise((stem, *widths))):
            inner = cardinality * (group_width * width // widths[0])
            strides = (1 if i == 0 else 2, *[1] * (blocks - 1))
            ins = (inputs, *[width] * (blocks - 1))
            chain = (Bottleneck(given, width, inner, cardinality, stride) for given, stride in zip(ins, strides, strict=True))
            self.stages.append(nn.Sequential(*chain))
        self.hidden = None if hidden is None else nn.Linear(widths[-1], hidden)
        self.classifier = nn.Linear(hidden or widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (B, d), the classifier's input, and logits (B, C) of images (B, 1, H, W)."""
        x = F.relu(self.stem_norm(self.stem(images)))
        for stage in self.stages:
            x = stage(x)
        features = x.mean(dim=(2, 3))
        if self.hidden is not None:
            features = F.relu(self.hidden(features))
        return features, self.classifier(features)


class DigitNet(nn.Module):
    """A ResNeXt on the log-mel spectrogram of 1 s of speech.

    Args:
        stem, widths, blocks, cardinality, group_width, hidden: as in `ResNeXt`.
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
