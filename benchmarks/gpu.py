"""Every claim of speed and memory on a GPU, by one command.

    python -m benchmarks.gpu [--repeats N] [--only NAME]

Each figure is printed after the equality check of that very case, or the reason why it is not: unequal, out of memory, or an error.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt

from benchmarks.gpu_model import MINUTE, STEPS, STREAMS, generation, linearity, training
from benchmarks.gpu_recurrence import CONSTANTS, against_accelerated_scan, against_associative_scan, against_plain, fused, tuning
from benchmarks.timing import UnequalError, benchmark, header
from harmonicrnn.errors import UserError

Case = Callable[[torch.device, int], None]
Group = Literal["all", "recurrence", "training", "linearity", "generation", "tuning"]
SHAPES = ((1, MINUTE, 128), (16, 16_000, 128))

GROUPS: dict[str, list[Case]] = {
    "recurrence": [
        *(partial(fused, shape, dtype) for dtype in (torch.float32, torch.bfloat16) for shape in SHAPES),
        *(partial(against, MINUTE) for against in (against_plain, against_associative_scan, against_accelerated_scan)),
    ],
    "training": [partial(training, step) for step in STEPS],
    "linearity": [linearity],
    "generation": [
        *(partial(generation, streams) for streams in STREAMS),
        partial(generation, max(STREAMS), precision="high"),
    ],
    "tuning": [partial(tuning, constant, value, MINUTE) for constant, (_, values) in CONSTANTS.items() for value in values],
}


def gpu(repeats: PositiveInt = 20, only: Group = "all") -> None:
    """Checks, then times.

    Args:
        repeats: Timed runs of each case, after three that warm up.
        only: One group of cases.
    """
    if not torch.cuda.is_available():
        raise UserError("benchmarks.gpu needs a CUDA device, and torch sees none on this machine: nothing was measured")
    report([case for name, group in GROUPS.items() if only in ("all", name) for case in group], torch.device("cuda"), repeats)


def report(cases: Sequence[Case], device: torch.device, repeats: int) -> None:
    """Prints the machine and the figures; a case that fails is named and the others go on."""
    header("triton", device=device)
    for case in cases:
        try:
            case(device, repeats)
        except UnequalError as error:
            print(f"no speed is reported: {error}", flush=True)
        except torch.OutOfMemoryError:
            print("out of memory: no speed is reported of the next of these cases", flush=True)
        except Exception as error:  # whatever a compiler or a driver finds: the other cases are worth their time
            print(f"no speed is reported of the next of these cases: {type(error).__name__}: {error}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    raise SystemExit(benchmark(gpu))
