"""Lightning DataModules that load audio as batches of classes."""

from datamodules.audio_datamodule import AudioDataModule
from datamodules.audio_folder import AudioFolder
from datamodules.generated_audio import Synthetic
from datamodules.hub_wavs import Beethoven, YouTubeMix
from datamodules.maestro import Maestro
from datamodules.memory_task import Memory
from datamodules.sc09 import SC09, SC09Digits
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
