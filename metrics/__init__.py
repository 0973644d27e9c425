"""What is measured, as torchmetrics that are right under any number of ranks."""

from metrics.nll import NegativeLogLikelihood, sample_nats

__all__ = ["NegativeLogLikelihood", "sample_nats"]
