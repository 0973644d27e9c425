"""Functions compiled by numba, whose machine code is kept for later processes."""

from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from harmonicrnn.files import side_product

# "contract" allows fused multiply-adds and nothing else: NaN, infinity and the order of operations stay as written.
jit: Any = njit(nogil=True, error_model="numpy", fastmath={"contract"})


@cache
def _sources() -> str:
    """A digest of all that compiled functions may call or be made with: numba itself notices changes of their own file alone."""
    package = Path(__file__).parent
    files = [*sorted(package.glob("ops/**/*.py")), *sorted(package.glob("generation/cpu/**/*.py")), package / "models/prediction.py"]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Kept(FunctionCache):
    """Machine code on disk, which may not be what was written, or not be writable."""

    def _index_key(self, *args: Any) -> Any:
        return (*super()._index_key(*args), _sources())

    def load_overload(self, *args: Any) -> Any:
        with suppress(Exception):  # whatever a damaged file makes the reader raise
            return super().load_overload(*args)
        return None

    def save_overload(self, *args: Any) -> None:
        with side_product(f"{self.cache_path}: compiled code"):
            super().save_overload(*args)


def kept(function: Any) -> Any:
    """The function compiled, once for all processes where there is a folder for it: beside its file, or where NUMBA_CACHE_DIR says.

    It is compiled again where any file changed that its code may be from.
    """
    compiled = jit(function)
    with side_product("keeping compiled code, for which each start compiles anew (NUMBA_CACHE_DIR can name a folder for it)"):
        compiled._cache = _Kept(function)
    return compiled
