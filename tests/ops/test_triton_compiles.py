"""Every kernel compiled to machine code of a GPU (sm_90), which needs none: what the interpreter accepts may not compile."""

import pytest

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ops.triton import backward, kernels  # noqa: E402

INTEGERS = ("time", "chunk", "chunks", "units", "part")
STATES = ("rates", "phases", "products", "lasts", "carries", "starts", "last", "h0", "grad_h0", "grad_rates", "grad_phases")
KERNELS = [kernels.summary_kernel, kernels.forward_kernel, kernels.adjoint_kernel]
CASES = [(kernel, fused, complex_) for kernel in KERNELS for fused in (True, False) for complex_ in (True, False)]
CASES += [(kernel, None, c) for kernel in (backward.scan_backward_kernel, backward.gated_backward_kernel) for c in (True, False)]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize(("kernel", "fused", "complex_"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_compiles(kernel, fused, complex_, dtype):
    accumulator = "fp64" if dtype == "fp64" else "fp32"
    constants = {
        "FUSED": fused,
        "UNIT": 2 if complex_ and fused is False else 1,
        "COMPLEX": complex_,
        "ACC": tl.float64 if dtype == "fp64" else tl.float32,
        "BLOCK": 64,
        "MAX_SQRT_DERIVATIVE": 1000.0,
    }
    signature = {}
    for name in kernel.arg_names:
        pointer = "i1" if name == "fresh" else accumulator if name in STATES else dtype
        signature[name] = "constexpr" if name in constants else "i32" if name in INTEGERS else f"*{pointer}"
    used = {(i,): constants[name] for i, name in enumerate(kernel.arg_names) if name in constants}
    compiled = triton.compile(ASTSource(kernel, signature, used), target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
    assert compiled.asm["cubin"]
