"""Callback that draws audio samples from the model at each validation."""

import math
import time

import lightning as L
import soundfile
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from callbacks.run_record import run_directory
from callbacks.show import show_audio, show_figure
from harmonicrnn.audio.writing import pcm16
from harmonicrnn.evaluation.figures import mel_figure, waveform_figure
from harmonicrnn.files import replacing, side_product
from harmonicrnn.generation import Engine, generate, make_engine

BUDGET = 0.05
TRIAL_STEPS = 16


class AudioSamples(Callback):
    """Log a reference clip, a generated clip and a continuation of the reference's beginning at each validation.

    Writes WAV files to `samples/` in the run's folder, and audio, waveform and mel-spectrogram to the loggers that support them. All
    validations use the same seed and tags.

    Args:
        sample_seconds: Length of the generated clip and of the continuation in seconds; 0 for none; null for as much as can be drawn in
            5 % of the time between validations, at most a clip.
        prompt_seconds: Length of the reference's beginning that is continued, in seconds; at most half a clip.
        seed: Seed of the sampling.
    """

    def __init__(self, sample_seconds: float | None = None, prompt_seconds: float = 0.5, seed: int = 0) -> None:
        if not (0 <= (sample_seconds or 0) < math.inf and 0 <= prompt_seconds < math.inf):
            raise ValueError(
                f"samples.sample_seconds ({sample_seconds}) and samples.prompt_seconds ({prompt_seconds}) must be 0 or more, and finite"
            )
        self.sample_seconds, self.prompt_seconds, self.seed = sample_seconds, prompt_seconds, seed
        self._last_end = 0.0

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_end = time.perf_counter()

    # In this hook the averaged weights, if any, are still in place.
    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero or self.sample_seconds == 0:
            return
        with side_product(f"{run_directory(trainer) / 'samples'}: step {trainer.global_step}"):
            self._draw(trainer, pl_module)
        self._last_end = time.perf_counter()

    def _draw(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        first = data.clip("validation", 0)
        reference = first.classes[first.valid].long()
        prompt = reference[: min(round(self.prompt_seconds * module.sample_rate), len(reference) // 2)]
        engine = make_engine(module.net)
        samples = self._affordable(module.net, engine, module.sample_rate, data.clip_samples)
        self._show(trainer, module, "reference", reference)
        if samples:
            self._show(trainer, module, "generated", generate(module.net, samples, seed=self.seed, engine=engine)[0])
            continued = generate(module.net, samples, prompt=prompt, seed=self.seed, engine=engine)[0]
            self._show(trainer, module, "continuation", torch.cat([prompt, continued]))

    def _affordable(self, net: torch.nn.Module, engine: Engine, sample_rate: int, clip_samples: int) -> int:
        """Return the number of samples to draw for each of the two clips."""
        if self.sample_seconds is not None:
            return round(self.sample_seconds * sample_rate)
        budget = BUDGET * (time.perf_counter() - self._last_end)
        generate(net, engine.period, seed=self.seed, engine=engine)  # the first call may compile
        steps = -(-TRIAL_STEPS // engine.period) * engine.period
        started = time.perf_counter()
        generate(net, steps, seed=self.seed, engine=engine)
        trial = time.perf_counter() - started
        return min(clip_samples, max(0, int((budget - trial) / 2 / (trial / steps))))

    def _show(self, trainer: L.Trainer, module: L.LightningModule, tag: str, classes: Tensor) -> None:
        step, rate = trainer.global_step, module.sample_rate
        samples = module.quantiser.decode_centre(classes)
        with replacing(run_directory(trainer) / "samples" / f"step_{step:07d}" / f"{tag}.wav") as file:
            soundfile.write(file, pcm16(samples.numpy()), rate, format="WAV", subtype="PCM_16")
        show_audio(trainer, f"audio/{tag}", samples, rate)
        show_figure(trainer, f"waveform/{tag}", lambda: waveform_figure(samples, rate))
        show_figure(trainer, f"mel/{tag}", lambda: mel_figure(samples, rate, size=(8, 3)))
