"""Does a model remember? A motif that comes back after k samples of noise: see `datamodules/memory.py`."""

from benchmarks.experiments.declare import Experiment, Run


def memory() -> Experiment:
    """NLL of the repeat over k."""
    run = Run(
        "complex_k64",
        "configs/memory.yaml",
        labels={"recurrence": "complex", "k": 64},
        tests={"repeat": {}, "cut": {"data.clip_samples": 80}},
    )
    return Experiment(
        "memory",
        "Does the model predict a motif's repeat from its first hearing, k samples ago?",
        (run,),
        curve="k",
        quick={"trainer.max_steps": 4, "trainer.val_check_interval": 2},
    )
