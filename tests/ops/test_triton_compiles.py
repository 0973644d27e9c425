"""Every kernel compiled to machine code of a GPU (sm_90), which needs none: what the interpreter accepts may not compile."""

import pytest

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ops.triton import backward, kernels, mlp, mlp_kernels, neighbour_kernels, neighbours  # noqa: E402

INTEGERS = ("time", "chunk", "chunks", "units", "part", "count", "parts", "channels", "width", "hidden")
STATES = ("rates", "phases", "products", "lasts", "carries", "starts", "last", "h0", "grad_h0", "grad_rates", "grad_phases")
STATES += ("kernel", "bias", "grad_weights")
SHARED = [kernels.summary_kernel, kernels.forward_kernel, kernels.adjoint_kernel]
FUSED = [(kernel, True) for kernel in (*SHARED, backward.gated_backward_kernel)]
PLAIN = [(kernel, False) for kernel in (*SHARED, backward.scan_backward_kernel)]
NEIGHBOURS = [neighbour_kernels.gated_gelu_kernel, neighbour_kernels.gated_gelu_backward_kernel]
NEIGHBOURS += [neighbour_kernels.convolution_kernel, neighbour_kernels.convolution_backward_kernel]
MLPS = [mlp_kernels.gated_mlp_kernel, mlp_kernels.gated_mlp_backward_kernel]
CASES = [(*case, True, "fp32", False) for case in (*FUSED, *PLAIN)]
CASES += [(*case, False, "fp64", False) for case in (*FUSED, *PLAIN)]
CASES += [(*case, True, "bf16", True) for case in FUSED]
CASES += [(kernel, False, True, *case) for kernel in NEIGHBOURS for case in (("fp32", False), ("fp64", False), ("bf16", True))]
CASES += [(kernel, False, True, dtype, False) for kernel in MLPS for dtype in ("bf16", "fp16")]
SHARED_MEMORY = 227 * 1024
"""Bytes that a program may have on such a GPU."""


@pytest.mark.parametrize(("kernel", "fused", "complex_", "dtype", "ones"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_compiles(kernel, fused, complex_, dtype, ones):
    """ones: all sizes are 1, which Triton compiles in."""
    accumulator = "fp64" if dtype == "fp64" else "fp32"
    constants = {
        "FUSED": fused,
        "UNIT": 1 if fused or not complex_ else 2,
        "COMPLEX": complex_,
        "ACC": tl.float64 if dtype == "fp64" else tl.float32,
        "BLOCK": 1 if ones else 64,
        "MAX_SQRT_DERIVATIVE": 1000.0,
        "TAPS": 1 if ones else 4,
        "SUMS": 2 if ones else 8,
        "STEPS": neighbours.STEPS,
        "ROWS": neighbours.ROWS,
    }
    if kernel in MLPS:
        constants |= {"ROWS": mlp.ROWS, "WIDTH": 128, "HIDDEN": mlp.HIDDEN}
    if ones:
        constants |= dict.fromkeys(INTEGERS, 1)
    signature = {}
    for name in kernel.arg_names:
        pointer = "i1" if name == "fresh" else accumulator if name in STATES else dtype
        signature[name] = "constexpr" if name in constants else "i32" if name in INTEGERS else f"*{pointer}"
    used = {(i,): constants[name] for i, name in enumerate(kernel.arg_names) if name in constants}
    warps = mlp.WARPS if kernel in MLPS else 1 if ones else 2
    compiled = triton.compile(ASTSource(kernel, signature, used), target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= SHARED_MEMORY
    if kernel in MLPS:
        assert "mma" in compiled.asm["ptx"]  # products are made by the matrix units
