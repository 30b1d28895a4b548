"""Rows of one tensor of a safetensors file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import chosen_name, reading, require_file
from fastent.io.sources import Reader, Source, flat_shape
from fastent.runtime.optional import needed

__all__ = ["SAFETENSORS", "SafetensorsSource"]

Array = NDArray[Any]
_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "f4", "U8": "u1", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8",
}  # fmt: skip
_REMEDY, _KIND = "write it again", "no safetensors file"


class SafetensorsSource(Source):
    """One tensor of a safetensors file; bfloat16 is returned as float32."""

    def __init__(self, path: Path, name: str | None) -> None:
        self._open = needed("safetensors", "safe_open")
        self._path = path
        require_file(path)
        with reading(path, _REMEDY, _KIND), self._open(path, framework="numpy") as stored:
            chosen = chosen_name(path, list(stored.keys()), name, "tensor")
            found = stored.get_slice(chosen)
            shape, kind = tuple(found.get_shape()), str(found.get_dtype())
        tensor = f"safetensors.torch.load_file({str(path)!r})[{chosen!r}]"
        line = f"safetensors.torch.save_file({{{chosen!r}: {tensor}.%s}}, 'rows.safetensors')"
        if kind not in _DTYPES:
            raise FastentError(
                f"{chosen} of {str(path)!r} has dtype {kind}: one of {', '.join(_DTYPES)} is needed; convert it with "
                + line.replace("%s", "float()")
            )
        if len(shape) < 2:
            raise FastentError(
                f"{chosen} of {str(path)!r} has shape {shape}: a 2-D tensor (points, features) is needed; convert it with "
                + line.replace("%s", f"reshape({shape[0] if shape else 1}, -1)")
            )
        self._name = chosen
        self.shape, self.dtype, self._bfloat16 = flat_shape(shape), np.dtype(_DTYPES[kind]), kind == "BF16"
        if len(shape) > 2:
            self.point_shape = shape[1:]

    def __reduce__(self) -> Any:
        return SafetensorsSource, (self._path.absolute(), self._name)

    def read(self, start: int, stop: int) -> Array:
        if start == stop:
            return np.empty((0, self.shape[1]), self.dtype)
        framework = "pt" if self._bfloat16 else "numpy"  # numpy has no bfloat16
        require_file(self._path)
        with reading(self._path, _REMEDY, _KIND):
            with self._open(self._path, framework=framework) as stored:
                rows = stored.get_slice(self._name)[start:stop]
            rows = rows.float().numpy() if self._bfloat16 else np.asarray(rows)
            if rows.shape != (stop - start, *(self.point_shape or self.shape[1:])) or rows.dtype != self.dtype:
                raise ValueError(f"rows {start} to {stop} have shape {rows.shape} and dtype {rows.dtype}")
            return rows.reshape(stop - start, self.shape[1])  # type: ignore[no-any-return]


SAFETENSORS = Reader.of_suffix(".safetensors", SafetensorsSource)
