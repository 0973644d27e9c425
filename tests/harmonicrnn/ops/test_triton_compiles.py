"""Compiles every kernel to GPU machine code (sm_90), which needs no GPU: what the interpreter accepts may not compile, or be slow."""

import pytest

pytest.importorskip("triton")

from tests.harmonicrnn.ops.gpu_code import FUSED, GIVEN, compiled, counted, scan_case

KERNELS = [(kernel, fused) for fused, kernels in ((True, FUSED), (False, GIVEN)) for kernel in kernels]
OTHERS = [
    [(scan_case(kernel, "fp64", fused, complex_=False), False) for kernel, fused in KERNELS],
    [(scan_case(kernel, "bf16", True, units=1), True) for kernel in FUSED],
    [(scan_case(kernel, "bf16", False, units=70), False) for kernel in GIVEN],
]
CASES = [(scan_case(kernel, "fp32", fused), False) for kernel, fused in KERNELS] + [cases[-1] for cases in OTHERS]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for cases in OTHERS for case in cases[:-1]]

MOST = {
    ("summary_kernel", True): 64,
    ("forward_kernel", True): 62,
    ("adjoint_kernel", True): 48,
    ("gated_backward_kernel", True): 106,
    ("summary_kernel", False): 18,
    ("forward_kernel", False): 16,
    ("adjoint_kernel", False): 22,
    ("scan_backward_kernel", False): 36,
}
"""Most instructions allowed per step and unit in bfloat16."""


@pytest.mark.parametrize(("case", "ones"), CASES, ids=str)
def test_compiles(case, ones):
    """ones: all sizes are 1, which Triton makes compile-time constants."""
    assert compiled(case, ones).asm["cubin"]


@pytest.mark.parametrize("case", [scan_case(kernel, "bf16", fused) for kernel, fused in KERNELS], ids=lambda case: case.name)
def test_takes_few_instructions_and_no_stack(case):
    counts = counted(case)
    assert counts.instructions / case.numbers <= MOST[case.kernel.__name__, case.constants["F"].FUSED]
    assert counts.stack == 0
