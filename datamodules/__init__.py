"""Lightning DataModules that load audio as batches of classes."""

from datamodules.audio_datamodule import AudioDataModule
from datamodules.audio_folder import AudioFolder
from datamodules.datasets import SC09, Beethoven, Maestro, SC09Digits, YouTubeMix
from datamodules.generated_audio import Synthetic
from datamodules.memory_task import Memory
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
