"""What the training data of a run usually sounds like."""

from pathlib import Path

from datamodules import AudioDataModule
from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import Reference

CLIPS = 256  # of the training split, evenly spread


def detector_reference(data: AudioDataModule | None, quantiser: Quantiser, run: Path | None) -> Reference:
    """Measured on the training split, once; the defaults where that is not there.

    Args:
        data: of the run; None where it is not known.
        quantiser: of the model.
        run: folder that holds what was measured before, or will; it counts for data of one protocol.
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
