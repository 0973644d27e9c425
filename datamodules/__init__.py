"""Lightning DataModules that load audio as batches of classes."""

from datamodules.audio_datamodule import AudioDataModule
from datamodules.audio_folder import AudioFolder
from datamodules.beethoven import Beethoven
from datamodules.maestro import Maestro
from datamodules.memory_task import Memory
from datamodules.sc09 import SC09
from datamodules.sc09_digits import SC09Digits
from datamodules.synthetic import Synthetic
from datamodules.youtube_mix import YouTubeMix
from harmonicrnn.audio.dataset import Batch

__all__ = [
    "SC09",
    "AudioDataModule",
    "AudioFolder",
    "Batch",
    "Beethoven",
    "Maestro",
    "Memory",
    "SC09Digits",
    "Synthetic",
    "YouTubeMix",
]
