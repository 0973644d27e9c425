"""Noise on what a model hears of a clip in training, while it predicts the clip as it is: it learns to come back from its own errors.

The remedy is that of LPCNet (arXiv 1810.11846), there inside a closed loop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.audio import Quantiser

LOWEST = -80.0
"""dB, of the quietest noise."""
CLEAN = 0.5
"""Share of the clips that are left as they are."""
POINTS = 8
"""Levels drawn for a clip, at even distances; between them the level in dB follows a line."""


def with_noise(classes: Tensor, quantiser: Quantiser, highest: float, generator: torch.Generator) -> Tensor:
    """Classes (B, T) with Gaussian noise on the samples, whose level moves between -80 dB and `highest` dB of full scale.

    Args:
        classes: (B, T).
        quantiser: of the classes.
        highest: dB, of the root mean square.
        generator: on the CPU.
    """
    lanes, time = classes.shape
    levels = LOWEST + (highest - LOWEST) * torch.rand(lanes, 1, POINTS, generator=generator)
    level = F.interpolate(levels, size=time, mode="linear", align_corners=True)[:, 0]
    noise = torch.randn(lanes, time, generator=generator) * 10 ** (level / 20)
    noise *= torch.rand(lanes, 1, generator=generator) >= CLEAN
    samples = quantiser.decode_centre(classes) + noise.to(classes.device)
    return torch.where(noise.to(classes.device) == 0, classes, quantiser.encode((samples.clamp(-1, 1) + 1) / 2).to(classes.dtype))
