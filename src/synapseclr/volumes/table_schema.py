"""Pandera schemas that keep ids exact and report in sentences."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.storage.stored_table import StoredTable

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

Rule = tuple[str, Mapping[str, Any]]
"""Name of a check that Pandera registers (``ge``, ``in_range``, ``isin``, ...) and its arguments."""

_SAID = {
    "gt": "is not above {min_value}",
    "ge": "is below {min_value}",
    "le": "is above {max_value}",
    "in_range": "is outside of {min_value} to {max_value}",
    "isin": "is none of {allowed_values}",
}
_SHOWN = 3
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_CAVE_NAME = "pre_pt_root_id"


@dataclass(frozen=True)
class Column:
    """Type and rules of a column.

    Attributes:
        kind: ``id`` (integer from 0 to below 2^63, never through a float), ``root_id`` (the same to below 2^64),
            ``integer``, ``number`` (a float of any precision), ``flag`` or ``text``.
        nullable: Whether cells may be empty (NaN).
        finite: Whether infinite values are errors.
        unique: Whether each value may occur once.
        optional: Whether the column may be missing.
        rule: A further check.
    """

    kind: str = "number"
    nullable: bool = False
    finite: bool = True
    unique: bool = False
    optional: bool = False
    rule: Rule | None = None


SHARE_RULE = ("in_range", {"min_value": 0, "max_value": 1})
FROM_ZERO_RULE = ("ge", {"min_value": 0})
KEY = Column("id")
ID = Column("id", unique=True)
ROOT_ID = Column("root_id")
"""0: no neurite."""
TEXT = Column("text")
COUNT = Column("integer", rule=FROM_ZERO_RULE)
POSITIVE_COUNT = Column("integer", rule=("ge", {"min_value": 1}))
NOT_NEGATIVE = Column(rule=FROM_ZERO_RULE)
SHARE = Column(rule=SHARE_RULE)
SCORE = Column(rule=("le", {"max_value": 1}))
METRIC = Column("text", rule=("isin", {"allowed_values": ["roc_auc", "macro_auc", "explained_variance"]}))
NEUROGLANCER_URL = Column("text", nullable=True)
"""Empty where there is no volume that a browser can read."""

PLACES = {f"centre_{axis}_nm": Column(optional=True) for axis in "xyz"}
GROUPED_MEANS = {
    "n": POSITIVE_COUNT,
    "n_neurites": POSITIVE_COUNT,
    "mean": Column(),
    "lower_90": Column(),
    "upper_90": Column(),
}
"""A mean with its interval over neurites."""


T = TypeVar("T", pd.DataFrame, StoredTable)


@dataclass(frozen=True)
class TableSchema:
    """Columns and rules of a table. ``validate`` makes it a validator for Kedro's catalog.

    Attributes:
        name: What messages call the table, with a capital letter.
        columns: By name; further columns are allowed.
        key: Column whose value tells the user which row is meant; None: the row's number.
        may_be_empty: Whether a table without rows will do.
        only_these: Whether to leave out further columns.
    """

    name: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    key: str | None = None
    may_be_empty: bool = True
    only_these: bool = False

    def validate(self, table: T) -> T:
        """Check a table and give its columns their types.

        A table that stays in its file is checked column by column, and returned as it is.

        Raises:
            TableError: With everything that is wrong, column by column, and the rows concerned.
        """
        if isinstance(table, StoredTable):
            self._check_presence(table)
            for name in [name for name in self.columns if name in table]:
                alone = replace(self, columns={name: self.columns[name]}, only_these=False)
                try:
                    alone._validated(table[[name]])
                except TableError:  # which tells the rows by their key
                    alone._validated(table[list(dict.fromkeys([self.key or name, name]))])
                    raise
            return table
        return self._validated(table)

    def _validated(self, table: pd.DataFrame) -> pd.DataFrame:
        table = strip_names(table, self.columns)
        self._check_presence(table)
        typed = table.copy(deep=False)
        for name, column in self.columns.items():
            if name in table:
                typed[name] = self._typed(table, name, column)
        roots = [name for name, column in self.columns.items() if column.kind == "root_id" and name in typed]
        if any(typed[name].dtype == np.uint64 for name in roots):
            # One type for all: numpy and pandas join int64 and uint64 to float64, which would round ids.
            typed = typed.assign(**{name: typed[name].astype("uint64") for name in roots})
        is_numbered = isinstance(typed.index, pd.RangeIndex) and typed.index.equals(pd.RangeIndex(len(typed)))
        self._check_values(typed if is_numbered else typed.reset_index(drop=True))
        return typed[[name for name in self.columns if name in typed]] if self.only_these else typed

    @cached_property
    def pandera(self) -> DataFrameSchema:
        """The schema of the typed table."""
        import pandera.pandas as pa

        return pa.DataFrameSchema(
            {
                name: pa.Column(
                    checks=list(_checks(column)),
                    nullable=column.nullable,
                    unique=column.unique,
                    required=not column.optional,
                )
                for name, column in self.columns.items()
            },
            name=self.name,
        )

    def _check_presence(self, table: pd.DataFrame | StoredTable) -> None:
        needed = [name for name, column in self.columns.items() if not column.optional]
        check_columns(table, needed, self.name)
        if table.empty and not self.may_be_empty:
            raise TableError(f"{self.name} has no rows. It needs at least one synapse.")

    def _typed(self, table: pd.DataFrame, name: str, column: Column) -> pd.Series:
        values = table[name]
        if column.kind in ("id", "root_id"):
            return as_ids(values, name, self.name, n_bits=64 if column.kind == "root_id" else 63)
        if column.kind == "number":
            numbers = pd.to_numeric(values, errors="coerce")
            bad = table[numbers.isna() & values.notna()]
            if len(bad):
                raise TableError(
                    f"{self.name}'s {name} is not a number for {self._rows(bad)}: {some(bad[name])}. Give a number"
                    f"{', or leave the cell empty' if column.nullable else ''}."
                )
            return numbers if pd.api.types.is_float_dtype(numbers) else numbers.astype("float64")
        if column.kind == "integer" and len(values) and not pd.api.types.is_integer_dtype(values):
            raise TableError(f"{self.name}'s {name} holds {values.dtype}, expected whole numbers.")
        return values.astype(bool) if column.kind == "flag" else values

    def _check_values(self, table: pd.DataFrame) -> None:
        import pandera.errors

        try:
            self.pandera.validate(table.copy(deep=False), lazy=True, inplace=True)  # else Pandera copies all of it
        except pandera.errors.SchemaErrors as error:
            cases = error.failure_cases
            said = [
                self._sentence(table, str(name), str(check), group)
                for (name, check), group in cases.groupby(["column", "check"], sort=False)
            ]
            raise TableError(" ".join(said)) from error

    def _sentence(self, table: pd.DataFrame, name: str, check: str, cases: pd.DataFrame) -> str:
        # From the table: Pandera gives the values of several columns as floats, which would round ids.
        rows = table.loc[[index for index in cases["index"] if index in table.index]]
        if check == "field_uniqueness":
            twice = pd.unique(rows[name])
            return f"{self.name} has {name} {some(twice)} more than once. Each row needs one of its own."
        if check == "not_nullable":
            return f"{self.name}: {name} is empty or not a number for {self._rows(rows)}."
        return f"{self.name}: {name} {check} for {self._rows(rows)}: {some(rows[name])}."

    def _rows(self, rows: pd.DataFrame) -> str:
        if self.key is not None and self.key in rows:
            return f"synapse {some(rows[self.key])}"
        return f"row {some(rows.index)}"


def strip_names(table: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    """Remove the spaces around column names where that gives a name that is known and not taken.

    Args:
        table: Any table; it is not changed.
        names: Known names.
    """
    stripped = {name: name.strip() for name in table.columns if isinstance(name, str) and name != name.strip()}
    wanted = {old: new for old, new in stripped.items() if new in names and new not in table.columns}
    return table.rename(columns=wanted) if wanted else table


def check_columns(table: pd.DataFrame | StoredTable, columns: list[str], name: str) -> None:
    """Raise a :class:`TableError` that names the missing columns, and what to do where the reason can be seen."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TableError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns)) or 'none'}. Needed are {', '.join(columns)}."
            f"{_reason_of_missing(table, missing)}"
        )


def _reason_of_missing(table: pd.DataFrame | StoredTable, missing: list[str]) -> str:
    """Advice on a table that lacks columns, with a space in front; empty where nothing is recognised."""
    present = [str(column) for column in table.columns]
    for separator, called in _SEPARATORS.items():
        parts = {part.strip() for column in present for part in column.split(separator)}
        if any(separator in column for column in present) and parts & set(missing):
            decimal = ', and `decimal: ","` if it has decimal commas' * (separator == ";")
            return (
                f" Its columns are separated by {called}: set `load_args: {{sep: {json.dumps(separator)}}}` in its "
                f"catalog entry{decimal}."
            )
    if _CAVE_NAME in present:
        return (
            " It looks like a table from CAVE: in its catalog entry, set `type: "
            "synapseclr.datasets.SynapseTableDataset` and `unit_nm`, the size of the voxels of its positions "
            "(docs/own_data.md)."
        )
    by_lower = {column.strip().casefold(): column for column in present}
    alike = {new: by_lower[new.casefold()] for new in missing if new.casefold() in by_lower}
    return f" Rename {', '.join(f'{old} to {new}' for new, old in alike.items())}." if alike else ""


def as_ids(column: pd.Series, name: str, table_name: str, n_bits: int = 63) -> pd.Series:
    """Return 64-bit integers without ever passing through floats, which are exact only up to 2^53.

    Args:
        column: Integers, or texts of integers.
        name: Its name, for messages.
        table_name: That of the table.
        n_bits: Ids have to be below 2 to this power.

    Returns:
        int64; uint64 if ``n_bits`` is 64, and the column is uint64 or holds an id of 2^63 or more.

    Raises:
        TableError: If a value is missing, fractional, negative or too large, or arrived as a float above 2^53.
    """
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        is_bad, numbers = column < 0, column
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        is_bad = numbers.isna() | (numbers < 0)
        if pd.api.types.is_float_dtype(numbers):
            is_bad |= (numbers % 1 != 0) | (numbers > 2**53)
    is_large = numbers > np.iinfo(np.int64).max
    bad = column[is_bad | is_large if n_bits < 64 else is_bad]
    if len(bad):
        is_float = pd.api.types.is_float_dtype(numbers) and not numbers[is_bad].isna().any()
        raise TableError(
            f"{table_name}'s {name} holds {some(bad)}, which is not a whole number from 0 to below 2^{n_bits} kept "
            "exactly. Store ids as integers (not as floats) and leave no cell empty."
            f"{' Spreadsheets keep 15 digits of an id: export the table anew from its source.' * is_float}"
        )
    is_unsigned = n_bits == 64 and (bool(is_large.any()) or numbers.dtype == np.uint64)
    return numbers.astype("uint64" if is_unsigned else "int64")


def some(values: Any, n_shown: int = _SHOWN) -> str:
    """The first few of many values, for a message."""
    listed = list(values)
    shown = ", ".join(map(str, listed[:n_shown]))
    return shown if len(listed) <= n_shown else f"{shown} and {len(listed) - n_shown} more"


def _checks(column: Column) -> Any:
    import pandera.pandas as pa

    if column.kind == "number" and column.finite:
        yield pa.Check(lambda values: ~np.isinf(values), error="is infinite")
    if column.rule is not None:
        name, arguments = column.rule
        yield getattr(pa.Check, name)(**arguments, error=_SAID[name].format(**arguments))
