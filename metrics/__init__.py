"""What is measured, as torchmetrics that are right under any number of ranks."""

from metrics.nll import NegativeLogLikelihood, sample_nats
from metrics.nll_by_position import NLLByPosition

__all__ = ["NLLByPosition", "NegativeLogLikelihood", "sample_nats"]
