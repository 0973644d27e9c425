"""Lightning callbacks: checkpoints, logging, audio samples and measurements of a run."""

from callbacks.agreement_check import Agreement
from callbacks.audio_samples import AudioSamples
from callbacks.checkpointing import BestCheckpoint, FinalValidation, LastCheckpoint, Stopped, WholeCheckpointIO
from callbacks.ema import EMA
from callbacks.frechet_audio_distance import FrechetAudioDistance
from callbacks.nll_report import NLLReport
from callbacks.recurrence_histograms import RecurrenceHistograms
from callbacks.run_record import RandomStates, RunRecord
from callbacks.run_summary import RunSummary
from callbacks.throughput import Throughput, TrainingBar

__all__ = [
    "EMA",
    "Agreement",
    "AudioSamples",
    "BestCheckpoint",
    "FinalValidation",
    "FrechetAudioDistance",
    "LastCheckpoint",
    "NLLReport",
    "RandomStates",
    "RecurrenceHistograms",
    "RunRecord",
    "RunSummary",
    "Stopped",
    "Throughput",
    "TrainingBar",
    "WholeCheckpointIO",
]
