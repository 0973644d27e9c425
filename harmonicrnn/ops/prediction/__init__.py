"""Linear prediction from a sequence's own past, and the distribution that it gives of a sample's class."""

from harmonicrnn.ops.prediction.mixture import FAR, component_log_probabilities, mixture_log_probabilities
from harmonicrnn.ops.prediction.predictor import Predictor, PredictorState, predict

__all__ = ["FAR", "Predictor", "PredictorState", "component_log_probabilities", "mixture_log_probabilities", "predict"]
