"""Estimates the cost of the GPU kernels from their machine code for an H100 or H200, compiled and counted without a GPU."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from harmonicrnn.ops.triton import backward_kernels, chunks, forward_kernels
from harmonicrnn.ops.triton.arithmetic import Form

TARGET = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
INTEGERS = ("time", "chunk", "chunks", "count")
STATES = ("rates", "phases", "products", "lasts", "carries", "starts", "last", "h0", "grad_h0", "grad_rates", "grad_phases")
THREADS = 32
RECURRENCE = [forward_kernels.summary_kernel, forward_kernels.forward_kernel, forward_kernels.adjoint_kernel]
FUSED = [*RECURRENCE, backward_kernels.gated_backward_kernel]
GIVEN = [*RECURRENCE, backward_kernels.scan_backward_kernel]


@dataclass(frozen=True)
class Case:
    """A kernel launch with one warp: compile-time constants and the dtype of the tensors."""

    kernel: Any
    dtype: str
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.kernel.__name__}{' fused' if self.constants['F'].FUSED else ''} {self.dtype}"

    @property
    def numbers(self) -> float:
        """Numbers that a thread computes per iteration of the counted loop."""
        return self.constants["ROWS"] * self.constants["F"].BLOCK / THREADS


def scan_case(kernel: Any, dtype: str, fused: bool, complex_: bool = True, units: int = 64) -> Case:
    """Returns a case of the recurrence, in which one warp takes up to 64 units."""
    block = min(triton.next_power_of_2(units), chunks.MAX_BLOCK)
    form = Form(units, complex_, fused, complex_ and not fused, tl.float64 if dtype == "fp64" else tl.float32, block)
    constants = {"EXCLUSIVE": False, "ROWS": chunks.rows_of(kernel, fused), "MAX_SQRT_DERIVATIVE": 1000.0, "F": form}
    return Case(kernel, dtype, constants)


def compiled(case: Case, sizes_are_ones: bool = False) -> Any:
    """Compiles the kernel for tensors aligned to 16 bytes, as torch's are. Triton makes sizes of 1 compile-time constants."""
    accumulator = "fp64" if case.dtype == "fp64" else "fp32"
    constants = dict(case.constants)
    if sizes_are_ones:
        constants |= dict.fromkeys(INTEGERS, 1)
    signature, attributes = {}, {}
    for i, name in enumerate(case.kernel.arg_names):
        pointer = "i1" if name == "fresh" else accumulator if name in STATES else case.dtype
        signature[name] = "constexpr" if name in constants else "i32" if name in INTEGERS else f"*{pointer}"
        if signature[name][0] == "*":
            attributes[(i,)] = [["tt.divisibility", 16]]
    used = {(i,): constants[name] for i, name in enumerate(case.kernel.arg_names) if name in constants}
    return triton.compile(ASTSource(case.kernel, signature, used, attributes), target=TARGET, options={"num_warps": 1})


@dataclass(frozen=True)
class Counts:
    """Number of instructions in a kernel's longest loop, or in all of it if it has none; bytes of a thread's stack, which holds what does
    not fit into registers."""

    instructions: int
    stack: int


def counted(case: Case) -> Counts:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled(case).asm["cubin"])
        file.flush()
        usage, code = (_output(*command, file.name) for command in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c")))
    instructions, labels, loops = 0, {}, []
    for line in code.splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = instructions
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions += 1
            target = re.search(r"BRA.*`\((\.L_\w+)\)", instruction[1])
            if target and target[1] in labels:
                loops.append(instructions - labels[target[1]])
    longest = max((loop for loop in loops if loop > 1), default=instructions)
    return Counts(longest, int(re.search(r"STACK:(\d+)", usage)[1]))  # type: ignore[index]


def _output(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], check=True, capture_output=True, text=True).stdout
