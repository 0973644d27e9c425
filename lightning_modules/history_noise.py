"""Noise on a model's input in training, with the clean clip as the target, so that free runs recover from their errors.

LPCNet (arXiv 1810.11846) does so inside a closed loop.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.audio import Quantiser

LOWEST = -80.0
"""Level of the quietest noise in dB."""
CLEAN = 0.5
"""Fraction of the clips without noise."""
TONAL = 0.5
"""Fraction of the other clips that have tones in place of noise, so that free runs do not whistle."""
POINTS = 8
"""Number of levels drawn for a clip, evenly spaced; in between, the level in dB is interpolated. And of tones, one after the other."""


def with_noise(classes: Tensor, quantiser: Quantiser, highest: float, seeds: Sequence[int]) -> Tensor:
    """Return classes (B, T) with Gaussian noise or tones on their samples, of levels between -80 dB and `highest` dB of full scale.

    Args:
        classes: (B, T).
        quantiser: Of the classes.
        highest: Highest root mean square in dB.
        seeds: One for each lane.
    """
    noise = torch.stack([_noise(classes.shape[1], highest, torch.Generator().manual_seed(seed)) for seed in seeds])
    samples = quantiser.decode_centre(classes) + noise.to(classes.device)
    return torch.where(noise.to(classes.device) == 0, classes, quantiser.encode((samples.clamp(-1, 1) + 1) / 2).to(classes.dtype))


def _noise(time: int, highest: float, generator: torch.Generator) -> Tensor:
    """Return the noise of one lane, (T,), of zeros in a clean one."""
    if torch.rand((), generator=generator) < CLEAN:
        return torch.zeros(time)
    levels = LOWEST + (highest - LOWEST) * torch.rand(1, 1, POINTS, generator=generator)
    level = F.interpolate(levels, size=time, mode="linear", align_corners=True)[0, 0]
    if torch.rand((), generator=generator) < TONAL:
        cycles = F.interpolate(torch.rand(1, 1, POINTS, generator=generator) / 2, size=time)[0, 0].double().cumsum(0)
        sound = math.sqrt(2) * torch.sin(2 * math.pi * cycles).float()
    else:
        sound = torch.randn(time, generator=generator)
    return sound * 10 ** (level / 20)
