"""HarmonicRNN as a LightningModule."""

from pathlib import Path
from typing import Any

from harmonicrnn.audio.quantise import Law
from harmonicrnn.models import HarmonicRNN
from lightning_modules.autoregressive_module import AutoregressiveModule
from lightning_modules.compiled_forward import Compile
from lightning_modules.optimizer import OptimizerConfig


class HarmonicModule(AutoregressiveModule):
    """Trains HarmonicRNN by maximum likelihood of the next sample.

    Args:
        optimizer: How the weights are trained.
        init_from: What has the weights that training starts from, with a fresh optimiser: a voice's folder or name, or a checkpoint.
        sample_rate: Of the audio in Hz; comes from the data.
        law: Spacing of the classes; comes from the data.
        compile: Whether torch.compile computes the forward pass of training and validation: true, false, or auto, which does so on a GPU.
            It is off where ranks share a waveform, and where its first use fails or gives other results (a warning says so).
        history_noise: Highest level in dB of full scale of noise on what the model hears of a clip in training, while it predicts the
            clip as it is; null for none. Free runs then come back from errors.
        network: The architecture, as in `harmonicrnn.models.HarmonicRNN`; bits come from the data.
    """

    def __init__(
        self,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
        init_from: Path | None = None,
        sample_rate: int = 16_000,
        law: Law = "mu-law",
        compile: Compile = "auto",
        history_noise: float | None = None,
        **network: Any,
    ) -> None:
        net = HarmonicRNN(**network)
        super().__init__(net, optimizer, init_from, sample_rate, law, compile, history_noise)
