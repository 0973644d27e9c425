"""Every kernel compiled to machine code of a GPU (sm_90), which needs none: what the interpreter accepts may not compile, or be slow."""

import pytest

pytest.importorskip("triton")

from benchmarks.gpu_counts import (
    CONVOLUTIONS,
    FUSED,
    GELUS,
    GIVEN,
    MLPS,
    NORMS,
    compiled,
    convolution_case,
    counted,
    gelu_case,
    mlp_case,
    norm_case,
    numbers_of,
    scan_case,
)

CASES = [(scan_case(kernel, "fp32", fused), False) for fused, kernels in ((True, FUSED), (False, GIVEN)) for kernel in kernels]
CASES += [
    (scan_case(kernel, "fp64", fused, complex_=False), False) for fused, kernels in ((True, FUSED), (False, GIVEN)) for kernel in kernels
]
CASES += [(scan_case(kernel, "bf16", True, units=1), True) for kernel in FUSED]
CASES += [(scan_case(kernel, "bf16", False, units=70), False) for kernel in GIVEN]
for dtype, ones in (("fp32", False), ("fp64", False), ("bf16", True)):
    CASES += [(gelu_case(kernel, dtype), ones) for kernel in GELUS]
    CASES += [(convolution_case(kernel, dtype, *((1, 1) if ones else ())), ones) for kernel in CONVOLUTIONS]
    CASES += [(norm_case(kernel, dtype, *((1,) if ones else ())), ones) for kernel in NORMS]
CASES += [(mlp_case(kernel, "fp16"), False) for kernel in MLPS]
SHARED_MEMORY = 227 * 1024
"""Bytes that a program may have on such a GPU."""

MOST = {
    ("summary_kernel", True): 64,
    ("forward_kernel", True): 62,
    ("adjoint_kernel", True): 48,
    ("gated_backward_kernel", True): 106,
    ("summary_kernel", False): 18,
    ("forward_kernel", False): 16,
    ("adjoint_kernel", False): 22,
    ("scan_backward_kernel", False): 36,
    ("gated_gelu_kernel", False): 26,
    ("gated_gelu_backward_kernel", False): 40,
    ("convolution_kernel", False): 9,
    ("convolution_backward_kernel", False): 16,
    ("residual_norm_kernel", False): 18,
    ("residual_norm_backward_kernel", False): 26,
    ("gated_mlp_kernel", False): 20,
    ("gated_mlp_backward_kernel", False): 58,
}
"""Instructions a number in bfloat16 that are not to be exceeded."""


@pytest.mark.parametrize(("case", "ones"), CASES, ids=str)
def test_compiles(case, ones):
    """ones: all sizes are 1, which Triton compiles in."""
    made = compiled(case, ones)
    assert made.asm["cubin"]
    assert made.metadata.shared <= SHARED_MEMORY


@pytest.mark.parametrize(
    "case",
    [
        *(scan_case(kernel, "bf16", fused) for fused, kernels in ((True, FUSED), (False, GIVEN)) for kernel in kernels),
        *(gelu_case(kernel, "bf16") for kernel in GELUS),
        *(convolution_case(kernel, "bf16") for kernel in CONVOLUTIONS),
        *(norm_case(kernel, "bf16") for kernel in NORMS),
        *(mlp_case(kernel, "bf16") for kernel in MLPS),
    ],
    ids=lambda case: case.name,
)
def test_takes_few_instructions_and_no_stack(case):
    counts = counted(case)
    assert counts.instructions / numbers_of(case) <= MOST[case.kernel.__name__, case.constants.get("FUSED", False)]
    if case.kernel in MLPS:
        assert compiled(case).metadata.shared <= SHARED_MEMORY
        assert "mma" in compiled(case).asm["ptx"]  # products are made by the matrix units
    assert counts.stack == 0
