"""LightningModule of HarmonicRNN."""

from pathlib import Path
from typing import Any

from harmonicrnn.audio.quantise import Law
from harmonicrnn.models import AutoregressiveNet, HarmonicRNN
from lightning_modules.autoregressive_module import AutoregressiveModule
from lightning_modules.compiled_forward import Compile
from lightning_modules.optimizer import OptimizerConfig


class HarmonicModule(AutoregressiveModule):
    """Train HarmonicRNN by maximum likelihood of the next sample.

    Args:
        optimizer: Settings of the optimiser.
        init_from: Initial weights, trained with a fresh optimiser: a voice's folder or name, or a checkpoint.
        sample_rate: Sample rate of the audio in Hz; set from the data.
        law: Spacing of the classes; set from the data.
        compile: Whether to use torch.compile for the forward pass of training and validation: true, false, or auto (on a GPU only). It is
            off if ranks share a waveform, and with a warning if its first use fails or gives different results.
        history_noise: Highest level in dB of full scale of noise or tones on the model's input in training, where the clean clip is the
            target; null for none. Free runs then recover from their errors.
        network: Architecture, see `harmonicrnn.models.HarmonicRNN`; bits are set from the data.
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
        net = self.build(**network)
        super().__init__(net, optimizer, init_from, sample_rate, law, compile, history_noise)

    def build(self, **network: Any) -> AutoregressiveNet:
        """Return the untrained model."""
        return HarmonicRNN(**network)
