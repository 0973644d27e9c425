"""Lightning callbacks: checkpoints, logging, audio samples and measurements of a run."""

from callbacks.agreement_check import Agreement
from callbacks.audio_samples import AudioSamples
from callbacks.checkpoint_files import BestCheckpoint, WholeCheckpointIO
from callbacks.ema import EMA
from callbacks.final_validation import FinalValidation
from callbacks.frechet_audio_distance import FrechetAudioDistance
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.nll_report import NLLReport
from callbacks.random_states import RandomStates
from callbacks.recurrence_histograms import RecurrenceHistograms
from callbacks.run_record import RunRecord
from callbacks.run_summary import RunSummary
from callbacks.stop_signals import Stopped
from callbacks.throughput import Throughput
from callbacks.training_bar import TrainingBar

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
