"""Noise on a model's input in training, with the clean clip as the target, so that free runs recover from their errors.

LPCNet (arXiv 1810.11846) does so inside a closed loop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.audio import Quantiser

LOWEST = -80.0
"""Level of the quietest noise in dB."""
CLEAN = 0.5
"""Fraction of the clips without noise."""
POINTS = 8
"""Number of levels drawn for a clip, evenly spaced; in between, the level in dB is interpolated."""


def with_noise(classes: Tensor, quantiser: Quantiser, highest: float, generator: torch.Generator) -> Tensor:
    """Return classes (B, T) with Gaussian noise on their samples, of levels between -80 dB and `highest` dB of full scale.

    Args:
        classes: (B, T).
        quantiser: Of the classes.
        highest: Highest root mean square in dB.
        generator: On the CPU.
    """
    lanes, time = classes.shape
    levels = LOWEST + (highest - LOWEST) * torch.rand(lanes, 1, POINTS, generator=generator)
    level = F.interpolate(levels, size=time, mode="linear", align_corners=True)[:, 0]
    noise = torch.randn(lanes, time, generator=generator) * 10 ** (level / 20)
    noise *= torch.rand(lanes, 1, generator=generator) >= CLEAN
    samples = quantiser.decode_centre(classes) + noise.to(classes.device)
    return torch.where(noise.to(classes.device) == 0, classes, quantiser.encode((samples.clamp(-1, 1) + 1) / 2).to(classes.dtype))
