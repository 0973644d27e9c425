"""Compiles functions with numba and caches their machine code on disk."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import from_dtype, njit
from numba.core.caching import FunctionCache
from numba.extending import intrinsic as numba_intrinsic

from harmonicrnn.files import side_product

# "contract" allows only fused multiply-adds: NaN, infinity and the order of operations stay as written.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
jit: Any = njit(**OPTIONS)
# Reassociation lets sums be vectorised.
jit_sum: Any = njit(**(OPTIONS | {"fastmath": {"contract", "reassoc"}}))

intrinsic: Any = numba_intrinsic  # as called, without the argument that numba gives


@cache
def _sources() -> str:
    """Returns a digest of all files that compiled functions may use: numba only notices changes of a function's own file."""
    package = Path(__file__).parent
    files = [
        *sorted(package.glob("ops/**/*.py")),
        *sorted(package.glob("generation/cpu/**/*.py")),
        *sorted(package.glob("models/prediction*.py")),
        Path(__file__),
    ]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Kept(FunctionCache):
    """A cache of machine code on disk that tolerates damaged files and folders that are not writable."""

    def _index_key(self, *args: Any) -> Any:
        return (*super()._index_key(*args), _sources())

    def load_overload(self, *args: Any) -> Any:
        with suppress(Exception):  # a damaged file can raise any error
            return super().load_overload(*args)
        return None

    def save_overload(self, *args: Any) -> None:
        with side_product(f"{self.cache_path}: compiled code"):
            super().save_overload(*args)


@cache
def _tell_once(why: str) -> None:
    with side_product("caching of compiled code, without which each start compiles anew (NUMBA_CACHE_DIR can name a folder for it)"):
        raise RuntimeError(why)


def kept(function: Any) -> Any:
    """Compiles a function and caches its code for other processes, beside its file or in NUMBA_CACHE_DIR, if that is writable.

    It is recompiled after a change of any file that it may use.
    """
    compiled = jit(function)
    try:
        compiled._cache = _Kept(function)
    except Exception as error:
        _tell_once(str(error).removeprefix(f"cannot cache function {function.__qualname__!r}: "))
    return compiled


def over_threads(work: Callable[[slice, int], None], rows: int, threads: int) -> None:
    """Calls `work(part, number)` for equal parts of range(rows), in as many threads, which are at most as many as rows."""
    threads = max(1, min(threads, rows))
    parts = [slice(rows * i // threads, rows * (i + 1) // threads) for i in range(threads)]
    if threads == 1:
        work(parts[0], 0)
        return
    with ThreadPoolExecutor(threads) as pool:
        deque(pool.map(work, parts, range(threads)), maxlen=0)  # raises what a thread raises


def code_address(compiled: Any, *dtypes: Any) -> int:
    """Returns the address of the machine code of a compiled function for numbers of these dtypes, as C calls it."""
    arguments = tuple(from_dtype(np.dtype(dtype)) for dtype in dtypes)
    compiled.compile(arguments)
    result = compiled.overloads[arguments]
    address: int = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
    return address
