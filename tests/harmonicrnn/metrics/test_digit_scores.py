"""Tests of the digit scores (IS, modified IS, AM, FID) and of the selection of clips by likelihood."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.metrics import Classified, digit_reference, digit_scores, select_by_likelihood
from harmonicrnn.metrics.digit_scores import am_score, inception_score, inception_score_s4, modified_inception_score

DIGITS = 10
SURE = 0.9


def clips_of(labels, sure=SURE):
    """Returns log-probabilities (n, 10) of clips that give one digit `sure` and share the rest equally among the others."""
    p = torch.full((len(labels), DIGITS), (1 - sure) / (DIGITS - 1), dtype=torch.float64)
    p[torch.arange(len(labels)), torch.as_tensor(labels)] = sure
    return p.log()


def balanced(n=1000):
    """Returns labels (n,) in which all digits are equally frequent, both overall and in the half that the source takes."""
    labels = torch.empty(n, dtype=torch.int64)
    labels[torch.from_numpy(np.random.RandomState(0).permutation(n))] = torch.arange(n) % DIGITS
    return labels


def random_clips(n=300, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([3.0, 3, 2, 2, 2, 1, 1, 1, 5, 0.1])
    return (scale * torch.randn(n, DIGITS, generator=generator)).to(dtype).log_softmax(dim=1)


def entropy(*p):
    return -sum(x * math.log(x) for x in p if x)


SHARP = math.log(DIGITS) - entropy(SURE, *[(1 - SURE) / 9] * 9)
"""KL divergence from the uniform distribution, in nats, of a clip that is sure of one digit."""


def test_balanced_clips_have_both_inception_scores_equal():
    for sure, expected in ((1.0, 10.0), (SURE, math.exp(SHARP)), (0.1, 1.0)):
        clips = clips_of(balanced(), sure)
        assert inception_score(clips) == pytest.approx(expected, rel=1e-12)
        assert inception_score_s4(clips) == pytest.approx(expected, rel=1e-12)


def test_skewed_clips_have_a_lower_score_by_the_definition_and_one_above_10_by_the_source():
    """All clips are sure, nine tenths of them of one digit: exp(H) of the shares by the definition, exp(mean ln n/n_c) by the source."""
    n = 2000
    labels = torch.empty(n, dtype=torch.int64)
    labels[torch.from_numpy(np.random.RandomState(0).permutation(n))] = torch.arange(n) % 90 * (torch.arange(n) % 90 < 10)
    shares = labels.bincount(minlength=DIGITS) / n
    assert inception_score(clips_of(labels, 1.0)) == pytest.approx(math.exp(entropy(*shares.tolist())), rel=1e-6)
    assert inception_score(clips_of(labels, 1.0)) < 2
    half = labels[torch.from_numpy(np.random.RandomState(0).permutation(n)[: n // 2])].bincount(minlength=DIGITS).double()
    expected = (n / 2 / half).log().mean().exp().item()
    assert expected > 50
    assert inception_score_s4(clips_of(labels, 1.0)) == pytest.approx(expected, rel=1e-9)


def test_scores_are_those_of_the_source():
    """Compares with the source's formulas and scipy's entropy for the same draws: over axis 0 here, as classes are along axis 1."""
    p = random_clips().exp().numpy()
    shuffled = p[np.random.RandomState(0).permutation(len(p))]
    first, second = shuffled[: len(p) // 2], shuffled[len(p) // 2 :]
    inception = np.exp(scipy.stats.entropy(first, np.tile(second.mean(axis=0), (len(first), 1))).mean())
    draws = np.random.RandomState(0)
    i, j = np.array([draws.choice(np.arange(len(p)), size=2, replace=True) for _ in range(10_000)]).T
    modified = np.exp(scipy.stats.entropy(p[i], p[j], axis=1).mean())
    real = random_clips(seed=1).exp().numpy()
    am = scipy.stats.entropy(real.mean(axis=0), p.mean(axis=0)) + scipy.stats.entropy(p, axis=1).mean()
    assert inception_score_s4(random_clips()) == pytest.approx(inception, rel=1e-9)
    assert modified_inception_score(random_clips()) == pytest.approx(modified, rel=1e-9)
    assert am_score(random_clips(), torch.from_numpy(real.mean(axis=0))) == pytest.approx(am, rel=1e-9)
    assert inception_score(random_clips()) == pytest.approx(np.exp(scipy.stats.entropy(p, p.mean(axis=0)[None], axis=1).mean()), rel=1e-9)


def test_modified_inception_score_of_hand_made_clips():
    """It is 1 if all clips are alike. For two kinds it is exp of the share of unlike pairs times their divergence, in either order."""
    assert modified_inception_score(clips_of([3] * 20)) == pytest.approx(1, rel=1e-12)
    unlike = (SURE - (1 - SURE) / 9) * math.log(SURE / ((1 - SURE) / 9))
    share = math.log(modified_inception_score(clips_of([3, 3, 3, 7]))) / unlike
    assert share == pytest.approx(2 * 3 / 16, abs=4 * math.sqrt(0.375 * 0.625 / 10_000))


def test_am_score_of_hand_made_clips():
    uniform = torch.full((DIGITS,), 0.1, dtype=torch.float64)
    assert am_score(clips_of(balanced(), 1.0), uniform) == pytest.approx(0, abs=1e-9)
    assert am_score(clips_of(balanced()), uniform) == pytest.approx(entropy(SURE, *[(1 - SURE) / 9] * 9), rel=1e-6)
    # Half of the clips are one digit, the rest the nine others: KL(uniform || p) alone, as all are sure.
    skewed = clips_of([0] * 9 + list(range(1, 10)), 1.0)
    assert am_score(skewed, uniform) == pytest.approx(0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.1 / (1 / 18)), rel=1e-6)
    # A digit of probability e^-800, which is 0 in float64, is far away, but not infinitely.
    faint = torch.tensor([[0.0, -800]]).repeat(2, 1)
    assert am_score(faint, torch.tensor([0.5, 0.5])) == pytest.approx(400 - math.log(2), rel=1e-9)
    # A digit to which no clip gives any probability is infinitely far; one that is missing in the reference costs nothing.
    assert am_score(clips_of([0, 1], 1.0), uniform) == math.inf
    assert am_score(clips_of([0, 1], 1.0), torch.tensor([1.0] + [0.0] * 9)) == pytest.approx(math.log(2))


def test_scores_of_the_reference_itself_and_of_shifted_features():
    features = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = Classified(features, clips_of(balanced()))
    reference = digit_reference(real)
    scores = digit_scores(real, reference)
    assert scores["fid"] == pytest.approx(0, abs=1e-9)
    assert scores["am"] == pytest.approx(entropy(SURE, *[(1 - SURE) / 9] * 9), rel=1e-9)
    assert scores["is"] == pytest.approx(math.exp(SHARP))
    assert digit_scores(real._replace(features=features + 3), reference)["fid"] == pytest.approx(9 * 4)


def test_what_cannot_be_scored_is_refused():
    one = Classified(torch.zeros(1, 4), random_clips(1))
    with pytest.raises(UserError, match="at least two"):
        digit_reference(one)
    for score in (inception_score, inception_score_s4, modified_inception_score):
        with pytest.raises(UserError, match="at least two clips, and there are 1"):
            score(one.log_probabilities)
    broken = random_clips()
    broken[7, 2] = math.nan
    with pytest.raises(UserError, match="NaN for clip 7"):
        inception_score(broken)
    with pytest.raises(UserError, match="any probability of class 2"):
        inception_score_s4(clips_of([0, 1] * 10, 1.0))
    reference = digit_reference(Classified(torch.randn(20, 4), random_clips(20)))
    with pytest.raises(UserError, match="4 and 5 dimensions"):
        digit_scores(Classified(torch.randn(20, 5), random_clips(20)), reference)


def test_the_selection_by_likelihood():
    """Selects ranks 0.40 to 0.95 of a random half: as many clips as in the published tables, and neither the least nor the most likely."""
    likelihoods = torch.randn(10_240, generator=torch.Generator().manual_seed(0))
    chosen = select_by_likelihood(likelihoods)
    assert len(chosen) == len(chosen.unique()) == 2816
    assert (likelihoods[chosen].diff() >= 0).all()
    assert likelihoods[chosen[0]] == pytest.approx(likelihoods.quantile(0.40).item(), abs=0.05)
    assert likelihoods[chosen[-1]] == pytest.approx(likelihoods.quantile(0.95).item(), abs=0.1)
    other = select_by_likelihood(likelihoods, seed=1)
    shared = torch.isin(chosen, other).float().mean()
    assert 0.4 < shared < 0.6
    # Of 7 clips, 4 are held out, of which the second and third are kept.
    assert len(select_by_likelihood(torch.arange(7.0))) == 2
    with pytest.raises(UserError, match="leaves 1 of 6"):
        select_by_likelihood(torch.arange(6.0))
    with pytest.raises(UserError, match="clip 1 has a likelihood"):
        select_by_likelihood(torch.tensor([0.0, math.nan, *range(10)]))
