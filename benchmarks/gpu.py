"""Every claim of speed and memory on a GPU, by one command.

    python -m benchmarks.gpu [--repeats N] [--only NAME]

Each row is printed after the equality check of that very case, or the reason why it is not: unequal, out of memory, or an error.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.gpu_generation import STREAMS, generation_rows
from benchmarks.gpu_neighbours import NEIGHBOURS, neighbour_rows
from benchmarks.gpu_recurrence import accelerated_scan_rows, associative_scan_rows, fused_rows, plain_rows
from benchmarks.gpu_timing import UnequalError, header
from benchmarks.gpu_training import MINUTE, STEPS, linearity_rows, training_rows
from benchmarks.gpu_tuning import CONSTANTS, tuning_rows

Rows = Callable[[torch.device, int], Iterator[str]]
Group = Literal["all", "recurrence", "neighbours", "training", "linearity", "generation", "tuning"]
SHAPES = ((1, MINUTE, 128), (16, 16_000, 128))

GROUPS: dict[str, list[Rows]] = {
    "recurrence": [
        *(
            lambda device, n, shape=shape, dtype=dtype: fused_rows(*shape, dtype, device, n)
            for dtype in (torch.float32, torch.bfloat16)
            for shape in SHAPES
        ),
        *(lambda device, n, rows=rows: rows(1, MINUTE, 128, device, n) for rows in (plain_rows, associative_scan_rows)),
        lambda device, n: accelerated_scan_rows(1, MINUTE, 64, device, n),
    ],
    "neighbours": [partial(neighbour_rows, neighbour, MINUTE) for neighbour in NEIGHBOURS],
    "training": [partial(training_rows, step) for step in STEPS],
    "linearity": [linearity_rows],
    "generation": [
        *(partial(generation_rows, streams) for streams in STREAMS),
        lambda device, n: generation_rows(max(STREAMS), device, n, precision="high"),
    ],
    "tuning": [partial(tuning_rows, constant, value, MINUTE) for constant in CONSTANTS for value in constant.values],
}


def main(repeats: PositiveInt = 20, only: Group = "all") -> None:
    """Checks, then times.

    Args:
        repeats: Timed runs of each case, after three that warm up.
        only: One group of rows.
    """
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device, and torch sees none on this machine: nothing was measured")
    report([rows for name, group in GROUPS.items() if only in ("all", name) for rows in group], torch.device("cuda"), repeats)


def report(groups: list[Rows], device: torch.device, repeats: int) -> None:
    """Prints the machine and the rows; a case that fails is named and the others go on."""
    print(*header(device), f"repeats  {repeats}; median (lowest to highest)", sep="\n", flush=True)
    for rows in groups:
        try:
            for line in rows(device, repeats):
                print(line, flush=True)
        except UnequalError as error:
            print(f"no speed is reported: {error}", flush=True)
        except torch.OutOfMemoryError:
            print("out of memory: no speed is reported of the next of these cases", flush=True)
        except Exception as error:  # whatever a compiler or a driver finds: the other cases are worth their time
            print(f"no speed is reported of the next of these cases: {type(error).__name__}: {error}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    auto_cli(main)
