"""Linear prediction of a sequence from its past, and the resulting distribution over a sample's classes."""

from harmonicrnn.ops.prediction.mixture import FAR, component_log_probabilities, mixture_log_probabilities
from harmonicrnn.ops.prediction.predictor import Predictor, PredictorState, predict

__all__ = ["FAR", "Predictor", "PredictorState", "component_log_probabilities", "mixture_log_probabilities", "predict"]
