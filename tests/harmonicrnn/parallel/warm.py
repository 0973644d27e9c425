"""Imports and compiles what all ranks need; loaded once by the server that they are forked from."""

import torch

from harmonicrnn.models import HarmonicRNN, LevelSpec
from tests.harmonicrnn.parallel import fits  # noqa: F401

torch.set_num_threads(1)
for recurrence in ("complex", "real"):
    for dtype in (torch.float64, torch.float32):
        net = HarmonicRNN((LevelSpec(4, 1),), preset="griffin", bits=4, heads=1, recurrence=recurrence).to(dtype)
        net(torch.zeros(1, 2, dtype=torch.long))[0].sum().backward()
