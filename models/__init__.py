"""HarmonicRNN, a deep linear RNN over raw audio samples.

Legend: B batch (lanes), T time, D width (channels), G groups, H heads, N recurrence units, p pooling factor, q classes.

Everything that keeps the time resolution is `forward(x, state=None) -> (y, state)` with x of shape (B, T, D) and any T, zero included.
Training, chunked evaluation, prompts and single-step sampling are this one call with different x and state.
"""

from models.autoregressive import AutoregressiveNet, ModelState
from models.block import ResidualBlock
from models.conv import CausalConv
from models.counts import ContextCounts
from models.diagonal import DiagonalRecurrence
from models.digit_net import DigitNet
from models.harmonic_rnn import HarmonicRNN
from models.mixing import MixesTime, set_slices, undivided
from models.pooling import DownPool, UpPool
from models.recurrence import GatedRecurrence
from models.skip_block import LevelSpec, SkipBlock
from models.state import State
from models.wavenet import WaveNet

__all__ = [
    "AutoregressiveNet",
    "CausalConv",
    "ContextCounts",
    "DiagonalRecurrence",
    "DigitNet",
    "DownPool",
    "GatedRecurrence",
    "HarmonicRNN",
    "LevelSpec",
    "MixesTime",
    "ModelState",
    "ResidualBlock",
    "SkipBlock",
    "State",
    "UpPool",
    "WaveNet",
    "set_slices",
    "undivided",
]
