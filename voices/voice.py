"""A trained model with all it takes to listen and to play."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import OmegaConf
from torch import Tensor

from audio import Quantiser, Scaling
from errors import UserError
from generation import Engine, generate, make_engine
from generation.cpu import CPUEngine
from generation.prompts import Audio, classes_of
from generation.sampler import check_arguments
from lightning_modules import load_module
from metrics import sample_nats
from models import AutoregressiveNet, undivided

CHUNK = 1 << 14  # samples of a recording in one pass


@dataclass(frozen=True)
class Voice:
    """A model with its weights, and the data settings that it was trained with.

    net: the model, in evaluation mode.
    quantiser, sample_rate: what classes mean; rate in Hz.
    scaling: what samples were scaled by; None where that is not known, as no configuration lies beside the checkpoint.
    checkpoint: where it came from.
    """

    net: AutoregressiveNet
    quantiser: Quantiser
    sample_rate: int
    scaling: Scaling | None
    checkpoint: Path

    def engine(self, weights: Literal["full", "bfloat16", "int8"] = "full") -> Engine:
        """What draws from it.

        Args:
            weights: how it keeps them: as they are, or rounded to fewer bits, which is faster on the CPU and not quite the same model.

        Raises:
            UserError: they are to be rounded, and the model is not on the CPU.
        """
        if weights == "full":
            return make_engine(self.net)
        try:
            return CPUEngine(self.net, weights)
        except ValueError as error:
            raise UserError(f"--weights {weights}: {error}") from error

    def classes(self, audio: Audio, sample_rate: int | None = None, seconds: float | None = None) -> Tensor:
        """What the model hears of a recording, or of its first seconds: (T,) int16, as `generation.prompts.classes_of` gives it.

        Raises:
            UserError: the audio cannot be used, or it is not known how it is to be scaled.
        """
        if self.scaling is None:
            raise UserError(
                f"{self.checkpoint}: nothing beside it says how audio was scaled; give data.scaling (with --config, or to load)"
            )
        return classes_of(audio, sample_rate, self.quantiser, self.sample_rate, self.scaling, seconds)

    @torch.inference_mode()
    def nll(self, audio: Audio, sample_rate: int | None = None) -> float:
        """Bits per sample of a recording as a whole, its state carried from beginning to end; lower is likelier.

        Args:
            audio: a file, or samples in [-1, 1], (T,) or (channels, T).
            sample_rate: of samples, in Hz; None for the model's.

        Raises:
            UserError: as `classes`.
        """
        device, state = next(self.net.parameters()).device, None
        classes, nats = self.classes(audio, sample_rate), 0.0
        with undivided(self.net):
            for piece in classes.to(device).split(CHUNK):
                logits, state = self.net(piece[None], state)
                nats += sample_nats(logits, piece[None]).sum(dtype=torch.float64).item()
        return nats / len(classes) / math.log(2)

    def generate(
        self,
        seconds: float,
        prompt: Audio | None = None,
        sample_rate: int | None = None,
        clips: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> Tensor:
        """New audio: (clips, T) float32 in [-1, 1] at the model's rate, what follows the prompt.

        Args:
            seconds: of each clip.
            prompt: what they all continue: a file, or samples in [-1, 1], (T,) or (channels, T); None for silence before them.
            sample_rate: of the prompt's samples, in Hz; None for the model's.
            clips, seed: clip i is a function of (seed, i).
            temperature, top_p: as for `generation.generate`.

        Raises:
            UserError: as `classes`; or a number is out of range.
        """
        check_arguments(clips, seed, temperature, top_p, seconds)
        heard = None if prompt is None else self.classes(prompt, sample_rate)
        samples, how = round(seconds * self.sample_rate), {"seed": seed, "temperature": temperature, "top_p": top_p}
        return self.quantiser.decode_centre(generate(self.net, samples, clips, prompt=heard, engine=self.engine(), **how))


def load(path: Path | str, scaling: Scaling | None = None, device: str | torch.device = "cpu") -> Voice:
    """A run's model (the best, or else the last), or that of a checkpoint; with averaged weights where it was trained with them.

    Args:
        path: a run's folder, or a checkpoint.
        scaling: what samples are scaled by; None for what the run's config.yaml says.
        device: where it is to work.

    Raises:
        UserError: there is no such checkpoint, or it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        checkpoints = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        path = next((checkpoint for checkpoint in checkpoints if checkpoint.is_file()), checkpoints[0])
    module = load_module(path).eval()
    if scaling is None:
        scaling = _data_settings(path).get("scaling")
    return Voice(module.net.to(device), module.quantiser, module.sample_rate, scaling, path)


def _data_settings(checkpoint: Path) -> dict[str, Any]:
    """Of the run that a checkpoint lies in; none where it lies elsewhere."""
    config = checkpoint.resolve().parents[1] / "config.yaml"
    if checkpoint.resolve().parent.name != "checkpoints" or not config.is_file():
        return {}
    return dict(OmegaConf.select(OmegaConf.load(config), "data.init_args", default={}))
