"""Models of raw audio: HarmonicRNN, a deep linear RNN over samples, its layers, and baselines.

Legend: B batch (lanes), T time, D width (channels), G groups, H heads, N recurrence units, p pooling factor, q classes.

Layers that keep the time resolution are `forward(x, state=None) -> (y, state)` with x of shape (B, T, D) and any T, including 0.
Training, chunked evaluation, prompts and single-step sampling use this one call with different x and state.
"""

from harmonicrnn.models.autoregressive_net import AutoregressiveNet, ModelState
from harmonicrnn.models.block import ResidualBlock
from harmonicrnn.models.carried_states import CarriedStates
from harmonicrnn.models.context_counts import ContextCounts
from harmonicrnn.models.conv import CausalConv
from harmonicrnn.models.diagonal import DiagonalRecurrence
from harmonicrnn.models.dropout import DropoutPlace, set_dropout_place
from harmonicrnn.models.harmonic_rnn import HarmonicRNN
from harmonicrnn.models.mixing import MixesTime, set_slices, undivided
from harmonicrnn.models.pooling import DownPool, UpPool
from harmonicrnn.models.prediction import LinearPrediction, Prediction
from harmonicrnn.models.predictors_alone import PredictorsAlone
from harmonicrnn.models.recurrence import GatedRecurrence
from harmonicrnn.models.sample_likelihood import sample_nats
from harmonicrnn.models.skip_block import LevelSpec, SkipBlock
from harmonicrnn.models.state import State
from harmonicrnn.models.wavenet import WaveNet

__all__ = [
    "AutoregressiveNet",
    "CarriedStates",
    "CausalConv",
    "ContextCounts",
    "DiagonalRecurrence",
    "DownPool",
    "DropoutPlace",
    "GatedRecurrence",
    "HarmonicRNN",
    "LevelSpec",
    "LinearPrediction",
    "MixesTime",
    "ModelState",
    "Prediction",
    "PredictorsAlone",
    "ResidualBlock",
    "SkipBlock",
    "State",
    "UpPool",
    "WaveNet",
    "sample_nats",
    "set_dropout_place",
    "set_slices",
    "undivided",
]
