"""What the GPU kernels cost by their machine code for an H100 or H200, counted without a GPU.

    python -m benchmarks.gpu_counts

Instructions for each number that is written (each step of each unit, of the recurrence), those of them that the special function unit
executes at an eighth of the rate, and registers. A thread whose registers do not suffice keeps the rest on a stack in memory: none should.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from jsonargparse import auto_cli
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from harmonicrnn.ops.triton import (
    backward_kernels,
    chunks,
    forward_kernels,
    mlp,
    mlp_kernels,
    neighbour_kernels,
    neighbour_launches,
    norm,
    norm_kernels,
)

TARGET = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
INTEGERS = ("time", "chunk", "chunks", "count", "parts", "width", "hidden")
STATES = ("rates", "phases", "products", "lasts", "carries", "starts", "last", "h0", "grad_h0", "grad_rates", "grad_phases")
STATES += ("kernel", "bias", "grad_weights", "grad_biases")
THREADS = 32


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched: its compile-time constants, the dtype of its tensors, and its warps."""

    kernel: Any
    dtype: str
    constants: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        return f"{self.kernel.__name__}{' fused' if self.constants.get('FUSED') else ''} {self.dtype}"


def scan_case(kernel: Any, dtype: str, fused: bool, complex_: bool = True, units: int = 64) -> Case:
    """One of the recurrence's, in which one warp takes up to 64 units."""
    constants = {
        "FUSED": fused,
        "INTERLEAVED": complex_ and not fused,
        "COMPLEX": complex_,
        "EXCLUSIVE": False,
        "UNITS": units,
        "ROWS": chunks.rows_of(kernel, fused),
        "BLOCK": min(triton.next_power_of_2(units), chunks.MAX_BLOCK),
        "MAX_SQRT_DERIVATIVE": 1000.0,
    }
    return Case(kernel, dtype, constants, 1)


def convolution_case(kernel: Any, dtype: str, taps: int = 4, channels: int = neighbour_launches.MAX_CHANNELS) -> Case:
    block = min(triton.next_power_of_2(channels), neighbour_launches.MAX_CHANNELS)
    constants = {"TAPS": taps, "STEPS": neighbour_launches.STEPS, "ROWS": neighbour_launches.ROWS, "CHANNELS": channels, "BLOCK": block}
    return Case(kernel, dtype, constants, 1)


def gelu_case(kernel: Any, dtype: str) -> Case:
    return Case(kernel, dtype, {"BLOCK": neighbour_launches.GELU_BLOCK}, 4)


def mlp_case(kernel: Any, dtype: str, width: int = 128) -> Case:
    hidden = mlp.BACKWARD_HIDDEN if kernel is mlp_kernels.gated_mlp_backward_kernel else mlp.HIDDEN
    return Case(kernel, dtype, {"ROWS": mlp.ROWS, "WIDTH": width, "HIDDEN": hidden, "ADDS": True}, mlp.WARPS)


def norm_case(kernel: Any, dtype: str, width: int = 128) -> Case:
    constants = {"ROWS": norm.rows_of(width), "WIDTH": triton.next_power_of_2(width), "EPSILON": 1e-6, "ADDS": True, "TURNS": norm.TURNS}
    return Case(kernel, dtype, constants, norm.WARPS)


RECURRENCE = [forward_kernels.summary_kernel, forward_kernels.forward_kernel, forward_kernels.adjoint_kernel]
FUSED = [*RECURRENCE, backward_kernels.gated_backward_kernel]
GIVEN = [*RECURRENCE, backward_kernels.scan_backward_kernel]
GELUS = [neighbour_kernels.gated_gelu_kernel, neighbour_kernels.gated_gelu_backward_kernel]
CONVOLUTIONS = [neighbour_kernels.convolution_kernel, neighbour_kernels.convolution_backward_kernel]
NORMS = [norm_kernels.residual_norm_kernel, norm_kernels.residual_norm_backward_kernel]
MLPS = [mlp_kernels.gated_mlp_kernel, mlp_kernels.gated_mlp_backward_kernel]


def compiled(case: Case, sizes_are_ones: bool = False) -> Any:
    """The kernel compiled; tensors begin at multiples of 16 bytes, as torch's do. Triton compiles sizes that are 1 in."""
    accumulator = "fp64" if case.dtype == "fp64" else "fp32"
    constants = {**case.constants, "ACC": tl.float64 if case.dtype == "fp64" else tl.float32}
    if sizes_are_ones:
        constants |= dict.fromkeys(INTEGERS, 1)
    signature, attributes = {}, {}
    for i, name in enumerate(case.kernel.arg_names):
        pointer = "i1" if name == "fresh" else accumulator if name in STATES else case.dtype
        signature[name] = "constexpr" if name in constants else "i32" if name in INTEGERS else f"*{pointer}"
        if signature[name][0] == "*" or (name in ("width", "hidden") and name not in constants):
            attributes[(i,)] = [["tt.divisibility", 16]]
    used = {(i,): constants[name] for i, name in enumerate(case.kernel.arg_names) if name in constants}
    return triton.compile(ASTSource(case.kernel, signature, used, attributes), target=TARGET, options={"num_warps": case.warps})


@dataclass(frozen=True)
class Counts:
    """Of a kernel's longest loop, or of all of it where it has none, and of one thread."""

    instructions: int
    special: int
    registers: int
    stack: int


def counted(case: Case) -> Counts:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled(case).asm["cubin"])
        file.flush()
        usage, code = (_output(*command, file.name) for command in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c")))
    registers, stack = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK"))  # type: ignore[index]
    instructions, labels, loops = [], {}, []
    for line in code.splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(instruction[1])
            target = re.search(r"BRA.*`\((\.L_\w+)\)", instruction[1])
            if target and target[1] in labels:
                loops.append(instructions[labels[target[1]] :])
    body = max((loop for loop in loops if len(loop) > 1), key=len, default=instructions)
    return Counts(len(body), sum("MUFU" in instruction for instruction in body), registers, stack)


def _output(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], check=True, capture_output=True, text=True).stdout


def numbers_of(case: Case) -> float:
    """Numbers that a thread computes in one turn of the loop that is counted."""
    constants = case.constants
    rows = 1 if case.kernel in GELUS else constants["ROWS"]
    width = "HIDDEN" if case.kernel in MLPS else "WIDTH" if case.kernel in NORMS else "BLOCK"
    return rows * constants[width] / (THREADS * case.warps)


def rows() -> Iterator[str]:
    cases = [
        scan_case(kernel, dtype, fused) for fused, of in ((True, FUSED), (False, GIVEN)) for kernel in of for dtype in ("fp32", "bf16")
    ]
    cases += [gelu_case(kernel, dtype) for kernel in GELUS for dtype in ("fp32", "bf16")]
    cases += [convolution_case(kernel, dtype) for kernel in CONVOLUTIONS for dtype in ("fp32", "bf16")]
    cases += [norm_case(kernel, dtype) for kernel in NORMS for dtype in ("fp32", "bf16")]
    cases += [mlp_case(kernel, "bf16") for kernel in MLPS]
    for case in cases:
        counts, numbers = counted(case), numbers_of(case)
        each = f"{counts.instructions / numbers:6.1f} instructions a number, {counts.special / numbers:4.1f} of them special"
        yield f"{case.name:36s} {each}; {counts.registers:3d} registers, {counts.stack} bytes of stack"


# Of an H200: bytes a second of a copy, and instructions of threads a second: processors, threads that each issues at once, clock.
BANDWIDTH, ISSUED = 4.3e12, 132 * 128 * 1.98e9
SHAPES = ((1, 960_000, 128), (16, 16_000, 128))
NEEDED, MOVED = {"forward": 3.0, "both ways": 9.0}, {"forward": 5.0, "both ways": 12.5}  # in units of one (B, T, D) tensor


def floors() -> Iterator[str]:
    """What no fused CG-LRU and no such kernels can be faster than."""
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        each = {kernel: (counted(case), numbers_of(case)) for kernel in FUSED for case in [scan_case(kernel, dtype, True)]}
        instructions = {kernel: counts.instructions / numbers for kernel, (counts, numbers) in each.items()}
        for what, used in (("forward", FUSED[:2]), ("both ways", FUSED)):
            for batch, time, width in SHAPES:
                tensor, steps = batch * time * width * size, batch * time * width // 2
                needed, moved = (1e3 * units[what] * tensor / BANDWIDTH for units in (NEEDED, MOVED))
                executed = 1e3 * steps * sum(instructions[kernel] for kernel in used) / ISSUED
                case = f"fused CG-LRU {batch} x {time:,} x {width} {dtype}, {what}"
                yield f"{case:48s} {needed:.3f} ms for needed bytes, {moved:.3f} for those moved, {executed:.3f} for instructions"


def main() -> None:
    """Compiles and counts."""
    print(f"compiled by triton {triton.__version__} for sm_{TARGET.arch}")
    for line in rows():
        print(line, flush=True)
    print(f"Floors at {BANDWIDTH / 1e12} TB/s and {ISSUED / 1e12:.1f}e12 instructions of threads a second:")
    for line in floors():
        print(line, flush=True)


if __name__ == "__main__":
    auto_cli(main)
