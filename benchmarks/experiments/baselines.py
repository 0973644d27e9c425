"""HarmonicRNN against other models of the next sample, of as many parameters (but for counts of two samples), on the same clips: see
`configs/baselines/`.

The rate of each is the best of `rates` (for counts, what stands for it), which is then written into its config.
"""

from benchmarks.experiments.ablations import QUICK
from benchmarks.experiments.declare import Experiment, Run

MODELS = {
    "harmonic": "configs/ablations/base.yaml",
    "lti": "configs/baselines/lti.yaml",
    "wavenet": "configs/baselines/wavenet.yaml",
    "gru": "configs/baselines/gru.yaml",
}
COUNTS = "configs/baselines/counts.yaml"
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
STRENGTHS = (4.0, 16.0, 64.0, 256.0)
SAMPLED = 256


def rates() -> Experiment:
    """Each model at each of some peak rates, measured on the validation split."""
    runs = [
        Run(f"{name}_{rate:g}", config, {"model.optimizer.lr": rate}, {"model": name, "peak rate": rate}, tests={})
        for name, config in MODELS.items()
        for rate in RATES
    ]
    runs += [
        Run(f"counts_{strength:g}", COUNTS, {"model.strength": strength}, {"model": "counts", "peak rate": f"s = {strength:g}"}, tests={})
        for strength in STRENGTHS
    ]
    return Experiment("rates", "Which peak rate suits each model best?", tuple(runs), seeds=3, quick=QUICK, any_data=True)


def baselines() -> Experiment:
    """Each model at its own rate."""
    runs = [Run(name, config, labels={"model": name}, sampled=SAMPLED) for name, config in MODELS.items()]
    runs += [
        Run(f"counts_{order}", COUNTS, {"model.order": order}, {"model": f"counts, order {order}"}, sampled=SAMPLED) for order in (1, 2)
    ]
    return Experiment(
        "baselines", "How well do other models of the next sample do, on equal terms?", tuple(runs), seeds=3, quick=QUICK, any_data=True
    )
