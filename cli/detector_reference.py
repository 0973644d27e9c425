"""What the training data of a run usually sounds like."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from datamodules import AudioDataModule
from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.files import replacing
from harmonicrnn.generation.detectors import Reference

CLIPS = 256  # of the training split, evenly spread


def usual_sound(data: AudioDataModule | None, quantiser: Quantiser, kept: Path | None) -> Reference:
    """Measured on the training split, once; the defaults where that is not there.

    Args:
        data: of the run; None where it is not known.
        quantiser: of the model.
        kept: a JSON file that holds what was measured before, or will; it counts for data of one protocol.
    """
    if data is None:
        return Reference.defaults(quantiser)
    if kept is not None and (reference := _read(kept)) is not None and reference.source == data.protocol:
        return reference
    try:
        data.setup("fit")
    except UserError:
        return Reference.defaults(quantiser)
    clips = data.clip_count("train")
    batches = (data.clip("train", index) for index in range(0, clips, -(-clips // CLIPS)))
    reference = Reference.of((batch.classes[batch.valid] for batch in batches), data.quantiser, data.sample_rate, data.protocol)
    if kept is not None:
        with suppress(OSError), replacing(kept) as file:  # a run that may only be read is measured each time
            file.write((json.dumps(asdict(reference), indent=2) + "\n").encode())
    return reference


def _read(kept: Path) -> Reference | None:
    """What a file holds; None where it is not there or not whole."""
    try:
        values = json.loads(kept.read_text())
        return Reference(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
