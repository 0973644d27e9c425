"""The SC09 scores of generated clips, from a digit classifier's outputs for generated and real clips.

For N clips the classifier gives probability vectors p_i over the C digits, and features, its last hidden layer. With p̄ the mean of the
p_i, H the entropy and KL the divergence, in nats:

    fid     Fréchet distance between Gaussians fitted to the features, real and generated (Heusel et al., arXiv 1706.08500)
    is      exp(E_i KL(p_i || p̄)) = exp(H(p̄) - E_i H(p_i)), from 1 to C (Salimans et al., arXiv 1606.03498)
    is_s4   the published tables' Inception Score, see `inception_score_s4`
    mis     exp(E_ij KL(p_i || p_j)) over random pairs (Gurumurthy et al., arXiv 1706.02071)
    am      KL(p̄_real || p̄) + E_i H(p_i) (Zhou et al., arXiv 1703.02000); like fid, lower is better

Random pairs and halves equal those of the S4/SaShiMi repository for the same clips in the same order.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.special import entr

from harmonicrnn.errors import UserError
from harmonicrnn.metrics.frechet import Gaussian, fit_gaussian, frechet_distance

PAIRS = 10_000
SEED = 0  # as in the S4/SaShiMi repository
SCORED = (0.40, 0.95)  # range of likelihood ranks that are scored, as fractions


class Classified(NamedTuple):
    """A classifier's outputs for clips: features (N, d) and log_probabilities (N, C)."""

    features: Tensor
    log_probabilities: Tensor


class DigitReference(NamedTuple):
    """Reference from real clips: the Gaussian of the features, and the mean probabilities (C,)."""

    features: Gaussian
    probabilities: Tensor


def digit_reference(real: Classified) -> DigitReference:
    """Returns the reference from real clips; raises UserError for fewer than two clips."""
    return DigitReference(fit_gaussian(real.features), _probabilities(real.log_probabilities).mean(dim=0))


def digit_scores(generated: Classified, reference: DigitReference) -> dict[str, float]:
    """Returns fid, is, is_s4, mis and am. Published rows of real clips (test or training split) are computed the same way.

    Raises:
        UserError: fewer than two clips, features of another dimension, or a number that is not finite.
    """
    log_p = generated.log_probabilities
    return {
        "fid": frechet_distance(reference.features, fit_gaussian(generated.features)),
        "is": inception_score(log_p),
        "is_s4": inception_score_s4(log_p),
        "mis": modified_inception_score(log_p),
        "am": am_score(log_p, reference.probabilities),
    }


def inception_score(log_probabilities: Tensor) -> float:
    """Returns exp(H(p̄) - E H(p)) of log-probabilities (N, C)."""
    p = _probabilities(log_probabilities)
    return (entr(p.mean(dim=0)).sum() - entr(p).sum(dim=1).mean()).exp().item()


def inception_score_s4(log_probabilities: Tensor) -> float:
    """Returns the Inception Score as computed by the S4/SaShiMi repository, from log-probabilities (N, C).

    It takes one half of the shuffled clips, n of them, and sums entropies over clips instead of classes, with each class normalised to 1
    over the clips. The mean of the other half, meant for comparison, cancels out:

        w_ic = p_ic / sum_i p_ic,   exp(mean_c (ln n - H(w_c)))

    It equals the definition on that half if p̄ is uniform; otherwise rare classes count as much as frequent ones, and the score can exceed
    C, up to n.

    Raises:
        UserError: fewer than two clips, or a class has no probability in the whole half.
    """
    p = _probabilities(log_probabilities)
    half = p[torch.from_numpy(np.random.RandomState(SEED).permutation(len(p))[: len(p) // 2])]
    mass = half.sum(dim=0)
    if (mass == 0).any():
        raise UserError(f"is_s4 is not defined: no clip of the half that it takes has any probability of class {int(mass.argmin())}")
    return (math.log(len(half)) - entr(half / mass).sum(dim=0)).mean().exp().item()


def modified_inception_score(log_probabilities: Tensor) -> float:
    """Returns exp(E KL(p_i || p_j)) over 10,000 random pairs, drawn with replacement, of log-probabilities (N, C)."""
    p = _probabilities(log_probabilities)
    log_p = log_probabilities.double()
    i, j = torch.from_numpy(np.random.RandomState(SEED).randint(0, len(p), (PAIRS, 2))).T
    return torch.where(p[i] > 0, p[i] * (log_p[i] - log_p[j]), 0).sum(dim=1).mean().exp().item()


def am_score(log_probabilities: Tensor, reference: Tensor) -> float:
    """Returns KL(reference || p̄) + E H(p) of log-probabilities (N, C) and the mean probabilities (C,) of real clips."""
    p, reference = _probabilities(log_probabilities), reference.double()
    mean = log_probabilities.double().logsumexp(dim=0) - math.log(len(p))  # log p̄, which does not underflow as the p_i do
    divergence = torch.where(reference > 0, reference * (reference.log() - mean), 0).sum()
    return (divergence + entr(p).sum(dim=1).mean()).item()


def select_by_likelihood(log_likelihoods: Tensor, seed: int = 0) -> Tensor:
    """Selects the generated clips to score: of a random half, sorted by log-likelihood, those from rank 0.40 to 0.95.

    The published rows of autoregressive models use such a selection, 2,816 of 10,240 clips. Their source chose the two ranks on the other
    half; here they are fixed.

    Args:
        log_likelihoods: (N,), of whole clips of one length under the model that drew them.
        seed: of the halves.

    Returns:
        Their indices (int64), the least likely first.

    Raises:
        UserError: fewer than two clips would be selected, or a likelihood is not finite.
    """
    if not log_likelihoods.isfinite().all():
        raise UserError(f"clip {int((~log_likelihoods.isfinite()).nonzero()[0])} has a likelihood that is not finite: draw it again")
    held_out = torch.randperm(len(log_likelihoods), generator=torch.Generator().manual_seed(seed))[len(log_likelihoods) // 2 :]
    low, high = (int(share * len(held_out)) for share in SCORED)
    if high - low < 2:
        raise UserError(f"the selection by likelihood leaves {high - low} of {len(log_likelihoods)} clips: generate more, at least 8")
    return held_out[log_likelihoods.cpu()[held_out].argsort(stable=True)][low:high]


def _probabilities(log_probabilities: Tensor) -> Tensor:
    if len(log_probabilities) < 2:
        raise UserError(f"the scores of SC09 need at least two clips, and there are {len(log_probabilities)}")
    if log_probabilities.isnan().any():
        raise UserError(f"the classifier gives NaN for clip {int(log_probabilities.isnan().any(dim=1).nonzero()[0])}: look at its audio")
    return log_probabilities.double().exp()
