"""Tables as pandas DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_plugin.api.extras import needed
from emt_plugin.runs.tables import Table

if TYPE_CHECKING:
    import pandas

# Each of them can say that a value is missing.
DTYPES = {"text": "string", "whole": "Int64", "number": "float64", "truth": "boolean", "time": "datetime64[us, UTC]"}


def frame(table: Table) -> pandas.DataFrame:
    """A table as a DataFrame, with its columns and their dtypes where it has no row, too.

    Raises:
        CouldNotRun: pandas is not installed.
    """
    pd = needed("pandas", "a table as a DataFrame")
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    return pd.DataFrame(
        {
            column.name: pd.Series(pd.to_datetime(values, utc=True, format="ISO8601") if column.kind == "time" else values,
                                   dtype=DTYPES[column.kind])
            for column, values in zip(table.columns, map(list, columns), strict=True)
        }
    )  # fmt: skip
