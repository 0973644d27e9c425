"""The scores of SC09: what a classifier of digits makes of generated clips, beside what it makes of real ones.

Of N clips the classifier gives a probability vector p_i over the C digits, and its last hidden layer, the features. With p̄ the mean of the
p_i, H the entropy and KL the divergence, in nats:

    fid     Fréchet distance between Gaussians fitted to the features, real and generated (Heusel et al., arXiv 1706.08500)
    is      exp(E_i KL(p_i || p̄)) = exp(H(p̄) - E_i H(p_i)), from 1 to C (Salimans et al., arXiv 1606.03498)
    is_s4   what the published tables hold under that name, see `inception_score_s4`
    mis     exp(E_ij KL(p_i || p_j)) over random pairs (Gurumurthy et al., arXiv 1706.02071)
    am      KL(p̄_real || p̄) + E_i H(p_i) (Zhou et al., arXiv 1703.02000); the only one beside fid that is better when lower

The pairs and the halves are those that the S4/SaShiMi repository draws, given the same clips in the same order.
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
SEED = 0  # of the source's draws
SCORED = (0.40, 0.95)  # from and to which rank by likelihood clips are scored, as shares


class Classified(NamedTuple):
    """Clips as a classifier sees them: features (N, d) and log_probabilities (N, C), of which p = exp."""

    features: Tensor
    log_probabilities: Tensor


class DigitReference(NamedTuple):
    """What generated clips are compared with: the Gaussian of the features, and the mean probabilities (C,), of real ones."""

    features: Gaussian
    probabilities: Tensor


def digit_reference(real: Classified) -> DigitReference:
    """Of the split compared with; raises UserError of fewer than two clips."""
    return DigitReference(fit_gaussian(real.features), _probabilities(real.log_probabilities).mean(dim=0))


def digit_scores(generated: Classified, reference: DigitReference) -> dict[str, float]:
    """fid, is, is_s4, mis and am. The row of real clips, of the test split or the training split itself, is computed just so.

    Raises:
        UserError: there are fewer than two clips, or features of another kind, or a number that is not finite.
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
    """exp(H(p̄) - E H(p)) of log-probabilities (N, C)."""
    p = _probabilities(log_probabilities)
    return (entr(p.mean(dim=0)).sum() - entr(p).sum(dim=1).mean()).exp().item()


def inception_score_s4(log_probabilities: Tensor) -> float:
    """What the S4/SaShiMi repository computes as Inception Score, of log-probabilities (N, C).

    It takes one half of the shuffled clips, n of them, and has entropies summed over the clips instead of the classes, each class of them
    normalised to 1; in that the mean of the other half, which was to be compared with, cancels out:

        w_ic = p_ic / sum_i p_ic,   exp(mean_c (ln n - H(w_c)))

    Equal to the definition, on that half, where p̄ is uniform; where it is not, rare classes count as much as frequent ones, and the score
    can be above C, up to n.

    Raises:
        UserError: there are fewer than two clips, or none of the half has any probability of some class.
    """
    p = _probabilities(log_probabilities)
    half = p[torch.from_numpy(np.random.RandomState(SEED).permutation(len(p))[: len(p) // 2])]
    mass = half.sum(dim=0)
    if (mass == 0).any():
        raise UserError(f"is_s4 is not defined: no clip of the half that it takes has any probability of class {int(mass.argmin())}")
    return (math.log(len(half)) - entr(half / mass).sum(dim=0)).mean().exp().item()


def modified_inception_score(log_probabilities: Tensor) -> float:
    """exp(E KL(p_i || p_j)) over 10,000 random pairs, drawn with replacement, of log-probabilities (N, C)."""
    p = _probabilities(log_probabilities)
    log_p = log_probabilities.double()
    i, j = torch.from_numpy(np.random.RandomState(SEED).randint(0, len(p), (PAIRS, 2))).T
    return torch.where(p[i] > 0, p[i] * (log_p[i] - log_p[j]), 0).sum(dim=1).mean().exp().item()


def am_score(log_probabilities: Tensor, reference: Tensor) -> float:
    """KL(reference || p̄) + E H(p) of log-probabilities (N, C) and the mean probabilities (C,) of real clips."""
    p, reference = _probabilities(log_probabilities), reference.double()
    mean = log_probabilities.double().logsumexp(dim=0) - math.log(len(p))  # of the p_i, which underflow where it does not
    divergence = torch.where(reference > 0, reference * (reference.log() - mean), 0).sum()
    return (divergence + entr(p).sum(dim=1).mean()).item()


def select_by_likelihood(log_likelihoods: Tensor, seed: int = 0) -> Tensor:
    """Which of N generated clips are scored: of a random half of them, sorted by log-likelihood, those from rank 0.40 to 0.95.

    The published rows of autoregressive models are of such a selection, 2,816 of 10,240 clips. Their source chose the two ranks on the
    other half; here they are fixed.

    Args:
        log_likelihoods: (N,), of whole clips of one length under the model that drew them, likelier is higher.
        seed: of the halves.

    Returns:
        Their numbers (int64), the least likely first.

    Raises:
        UserError: N is too small for two clips to be left, or a likelihood is not finite.
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
