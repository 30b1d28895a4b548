"""Results as tables of other programs: pandas, polars, DuckDB, Parquet files, all by way of Arrow."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastent.io.files import write_parquet
from fastent.runtime.optional import needed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Tabular"]


class Tabular:
    """What has a `table()`: as a data frame, as a file, and for whatever reads Arrow, such as `polars.DataFrame(result)`."""

    # Of subclasses; those with several tables take the name of one, and have a default.
    table: Callable[..., Any]

    def _arrow(self, *kind: str) -> "pa.Table":
        """The table as one of pyarrow's."""
        return self.table(*kind)

    def to_pandas(self, *kind: str) -> "pd.DataFrame":
        """The table as a data frame; which, if there are several, as for `table`.

        Raises
        ------
        FastentError
            No such table; pandas is not installed.
        """
        needed("pandas")
        return self._arrow(*kind).to_pandas()

    def to_parquet(self, path: str | os.PathLike[str], *kind: str) -> None:
        """Write the table to a Parquet file, whole or not at all; which, if there are several, as for `table`.

        Raises
        ------
        FastentError
            No such table; a path that cannot be written to.
        """
        write_parquet(path, self._arrow(*kind), compression="zstd")

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """For others that read Arrow, by its PyCapsule interface: the default table."""
        return self._arrow().__arrow_c_stream__(requested_schema)
