"""How OpenMP's threads wait for one another."""

import os

SPINS = 10_000
"""Rounds of libgomp's waiting loop, about 0.1 ms."""


def wait_briefly() -> None:
    """Lets threads that wait spin for about 0.1 ms and then sleep, in this process and its children, unless OMP_WAIT_POLICY is set.

    To be called before torch is loaded. By default libgomp spins for milliseconds, which makes training many times slower beside other
    processes; threads that sleep at once make small models slower on an idle machine (`benchmarks/training_speed.py`, `waiting`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
