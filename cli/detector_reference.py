"""Reference values of the training data for the detectors of faulty clips."""

from pathlib import Path

from datamodules import AudioDataModule
from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import Reference

CLIPS = 256  # of the training split, evenly spread


def detector_reference(data: AudioDataModule | None, quantiser: Quantiser, run: Path | None) -> Reference:
    """Return the reference measured on the training split, or the defaults if there is no training split.

    Args:
        data: data of the run; None if unknown.
        quantiser: quantiser of the model.
        run: folder in which the reference is cached, for data of the same protocol; None for no cache.
    """
    if data is None:
        return Reference.defaults(quantiser)
    if run is not None and (reference := Reference.read(run)) is not None and reference.source == data.protocol:
        return reference
    try:
        data.setup("fit")
    except UserError:
        return Reference.defaults(quantiser)
    clips = data.clip_count("train")
    batches = (data.clip("train", index) for index in range(0, clips, -(-clips // CLIPS)))
    reference = Reference.of((batch.classes[batch.valid] for batch in batches), data.quantiser, data.sample_rate, data.protocol)
    if run is not None:
        reference.keep(run)
    return reference
