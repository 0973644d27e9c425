"""Implements `harmonicrnn predictors`: likelihoods of recordings under untrained predictors."""

import math
from pathlib import Path

import torch

from harmonicrnn.audio import Quantiser, Scaling
from harmonicrnn.audio.quantise import Law
from harmonicrnn.errors import UserError
from harmonicrnn.generation.prompts import classes_of
from harmonicrnn.models.predictors_alone import FILTERS, PredictorsAlone

CHUNK = 1 << 14  # samples processed at a time


class RecordingPredictors:
    """Measures recordings under linear predictors, the last sample and linear extrapolation.

    Args:
        bits, law: of the classes.
        sample_rate: rate in Hz to which recordings are resampled.
        scaling: range mapped to full scale.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(self, bits: int, law: Law, sample_rate: int, scaling: Scaling) -> None:
        if sample_rate < 1:
            raise UserError(f"--sample_rate must be at least 1 Hz, got {sample_rate}")
        self.sample_rate, self.scaling = sample_rate, scaling
        try:
            self.quantiser = Quantiser(bits, law)
            self.nets = [PredictorsAlone(bits, weights) for weights in FILTERS.values()]
        except ValueError as error:
            raise UserError(f"--{error}") from error
        for net in self.nets:
            net.set_cells(*self.quantiser.cells())

    @property
    def protocol(self) -> str:
        """Returns a line on how the numbers are measured."""
        return (
            f"Exact -log2 p in bits/sample under {', '.join(FILTERS)}, each sample given all before it in its file, of "
            f"{self.quantiser.bits}-bit {self.quantiser.law} at {self.sample_rate} Hz, mono, scaling {self.scaling}"
        )

    @torch.inference_mode()
    def bits_per_sample(self, path: Path) -> list[float]:
        """Returns the bits per sample of a recording under each predictor; raises UserError if it cannot be read."""
        classes, found = classes_of(path, None, self.quantiser, self.sample_rate, self.scaling), []
        for net in self.nets:
            total, state = 0.0, None
            for piece in classes[None].split(CHUNK, dim=1):
                nats, state = net.nats(piece, state)
                total += nats.sum(dtype=torch.float64).item()
            found.append(total / len(classes) / math.log(2))
        return found
