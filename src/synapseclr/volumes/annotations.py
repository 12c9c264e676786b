"""Measured traits of synapses: from the raw annotation table to the columns that analyses use."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.volumes.table_schema import COUNT, ID, Column, TableSchema, some, strip_names
from synapseclr.volumes.traits import TRAITS, Trait

logger = logging.getLogger(__name__)

_NAME = "The annotation table"
_PRESENCE = "is_positive"


def raw_columns(traits: Sequence[Trait]) -> list[str]:
    """Columns of a raw annotation table: that of the ids, then those of the traits."""
    return ["syn_id", *dict.fromkeys(trait.column for trait in _in_raw_order(traits))]


def trait_columns(traits: Sequence[Trait]) -> list[str]:
    """Columns of the annotations that are made of it: traits, and the counts that presences are derived from."""
    names = [trait.name for trait in _in_order(traits)]
    counts = [trait.column for trait in traits if trait.transform == _PRESENCE and trait.column not in names]
    numbers = sum(not trait.is_class for trait in traits)
    return list(dict.fromkeys([*names[:numbers], *counts, *names[numbers:]]))


def _in_order(traits: Sequence[Trait]) -> list[Trait]:
    """Numbers, classes, and classes that are derived from a count."""
    return sorted(traits, key=lambda trait: 2 if trait.transform == _PRESENCE else int(trait.is_class))


def _in_raw_order(traits: Sequence[Trait]) -> list[Trait]:
    """Numbers and counts, then classes."""
    return sorted(traits, key=lambda trait: trait.is_class and trait.transform != _PRESENCE)


RAW_COLUMNS = raw_columns(TRAITS)
"""Columns of the published traits in a raw table."""

TRAIT_COLUMNS = trait_columns(TRAITS)
"""Columns of the published traits in the annotations."""

_ANY = Column(nullable=True, optional=True)
_SIZE = Column(nullable=True, optional=True, rule=("ge", {"min_value": 0}))
_ZERO_INFLATED = Column(nullable=True, optional=True, finite=False)


def annotation_schema(traits: Sequence[Trait]) -> TableSchema:
    """Schema of the transformed annotations: ``synapse_id``, numbers and codes of classes; -inf: nothing to measure."""
    columns = {"synapse_id": ID, **dict.fromkeys(trait_columns(traits), _ANY)}
    for trait in traits:
        if trait.kind == "zero_inflated":
            columns[trait.name] = _ZERO_INFLATED
        elif trait.is_class:
            codes = {"allowed_values": list(range(len(trait.classes)))}
            columns[trait.name] = Column(nullable=True, optional=True, rule=("isin", codes))
    return TableSchema("The table of annotations", columns, key="synapse_id")


ANNOTATIONS = TableSchema(
    "The table of annotations",
    {
        name: Column(column.kind, True, column.finite, optional=True) if name != "synapse_id" else column
        for name, column in annotation_schema(TRAITS).columns.items()
    },
    key="synapse_id",
)
"""For the catalog, which does not know the traits of a run: ids, and published traits where there are any."""


_TRANSFORMS = ["log1p_zscore", "log1p_zscore_zi", "zscore", "none"]

ANNOTATION_SCALES = TableSchema(
    "The table of annotation scales",
    {
        "trait": Column("text", unique=True),
        "raw_column": Column("text"),
        "transform": Column(
            "text", rule=("isin", {"allowed_values": ["log1p_zscore", "log1p_zscore_zi", "zscore", "none"]})
        ),
        "location": Column(nullable=True),  # not known of published annotations
        "scale": Column(nullable=True, rule=("gt", {"min_value": 0})),
        "n": COUNT,
    },
)


@dataclass(frozen=True)
class Annotations:
    """Transformed traits.

    Attributes:
        traits: ``synapse_id`` and :func:`trait_columns`, float64; NaN where a trait was not annotated, codes 0, 1, ...
            of classes, -inf for the size of what is not there.
        scales: ``trait, raw_column, transform, location, scale, n``: what undoes each transform.
        unknown_ids: Annotated synapses that the synapse table does not have; left out of ``traits``.
    """

    traits: pd.DataFrame
    scales: pd.DataFrame
    unknown_ids: list[int]


def transform_annotations(raw: pd.DataFrame, known_ids: pd.Series, traits: Sequence[Trait] = TRAITS) -> Annotations:
    """Give annotations the form that analyses read, as the traits declare it.

    Numbers become z-scores, of their logarithms (log1p) or of themselves; the z-score of zero-inflated traits is over
    those that are not zero, and zero, "nothing to measure", becomes -inf. Names of classes become codes. A column that
    has a trait's own name where the trait declares another one is taken as transformed already, as those of
    ``meta_ext.csv`` are; its location and scale are not known, and NaN.

    Args:
        raw: One row an annotated synapse, its id in ``syn_id`` or ``synapse_id``, and the columns of the traits; empty
            cells mean "not annotated". The table may have no rows.
        known_ids: Ids of the synapse table.
        traits: What the columns are; an optional trait without a column was not annotated.

    Raises:
        TableError: If a column is missing, ids are not unique whole numbers, a value is not a number, or a class is
            not declared.
    """
    checked = check_annotation_table(raw, traits)
    ids = checked["syn_id" if "syn_id" in checked else "synapse_id"]
    is_known = ids.isin(known_ids).to_numpy()
    kept = checked[is_known].reset_index(drop=True)
    found: dict[str, pd.Series] = {}
    scales: dict[str, list[object]] = {}

    def add(name: str, column: str, transform: str, values: pd.Series) -> None:
        found[name], location, scale = (
            (values, *((0.0, 1.0) if transform == "none" else (np.nan, np.nan)))
            if name != column and name in kept
            else _transformed(values, transform)
        )
        scales[name] = [name, column, transform, location, scale, int(values.notna().sum())]

    for trait in traits:
        column = trait.name if trait.name in kept else trait.column
        if trait.transform != _PRESENCE:
            add(trait.name, trait.column, trait.scale_transform, kept[column].astype("float64"))
            continue
        counts = kept[trait.column].astype("float64")
        present = (counts > 0).astype("float64").where(counts.notna())
        if trait.name in kept:
            present = kept[trait.name].astype("float64").fillna(present)
        found[trait.name] = present
        if trait.column not in scales:
            add(trait.column, trait.column, "none", counts)
    columns = trait_columns(traits)
    table = pd.DataFrame({"synapse_id": ids[is_known].to_numpy("int64")})
    return Annotations(
        table.assign(**{name: found[name] for name in columns}),
        pd.DataFrame(
            [scales[name] for name in columns if name in scales],
            columns=["trait", "raw_column", "transform", "location", "scale", "n"],
        ),
        [int(value) for value in ids[~is_known]],
    )


def join_synapse_columns(table: pd.DataFrame, synapses: pd.DataFrame, traits: Sequence[Trait]) -> pd.DataFrame:
    """Add to the annotations the traits of one's own that only the synapse table has a column of.

    So transmitters of FlyWire's table need no second file. The published traits come from the annotation table alone.

    Args:
        table: A raw annotation table.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        traits: Declared traits.

    Returns:
        The table itself if there is nothing to add, else one with a row for every synapse of either table.

    Raises:
        TableError: If ids of the annotation table are damaged.
    """
    published = {trait.column for trait in TRAITS}
    wanted = {trait.column for trait in traits if trait.name not in table and trait.column not in table} - published
    found = [str(name) for name in synapses.columns if name in wanted]
    if not found:
        return table
    checked = check_annotation_table(table)
    id_column = "syn_id" if "syn_id" in checked else "synapse_id"
    labels = synapses[["id", *found]].rename(columns={"id": id_column})
    return checked.merge(labels, on=id_column, how="outer") if len(checked) else labels


def check_annotation_table(table: pd.DataFrame, traits: Sequence[Trait] | None = None) -> pd.DataFrame:
    """Check an annotation table, raw or transformed already, and give its columns their types.

    An optional trait whose column is missing was not measured, as if its cells were empty. Further columns are left
    alone, and those that might be meant for a trait are named in the log.

    Args:
        table: One row an annotated synapse.
        traits: What to expect; None checks the ids alone, for catalogs, which do not know the traits of a run.

    Returns:
        The table, with a column for every trait, and codes in those of classes.

    Raises:
        TableError: If the ids' column is missing, the table has rows but no trait at all or lacks one that is not
            optional, ids are not unique whole numbers, a value is not a number, or a class is not declared.
    """
    expected = TRAITS if traits is None else traits
    table = strip_names(table, {"synapse_id", *trait_columns(expected), *raw_columns(expected)})
    id_column = "synapse_id" if "syn_id" not in table and "synapse_id" in table else "syn_id"
    if table.empty and id_column == "syn_id":
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, "syn_id"]))).astype({"syn_id": "int64"})
    if traits is None:
        return TableSchema(_NAME, {id_column: ID}, key=id_column).validate(table)
    if id_column in table:
        table = _with_every_trait(table, traits)
    columns = {id_column: ID}
    for trait in _in_order(traits):
        columns[trait.column] = _SIZE if _is_size(trait) else _ANY
        if trait.name != trait.column:
            columns[trait.name] = _ZERO_INFLATED if trait.kind == "zero_inflated" else _ANY
    return TableSchema(_NAME, columns, key=id_column).validate(table)


def _is_size(trait: Trait) -> bool:
    return trait.transform in ("log1p_zscore", _PRESENCE) or trait.kind in ("count", "zero_inflated")


def _with_every_trait(table: pd.DataFrame, traits: Sequence[Trait]) -> pd.DataFrame:
    """Codes for names of classes, and empty columns for optional traits that were not measured."""
    known = {column for trait in traits for column in (trait.name, trait.column)}
    further = [str(name) for name in table.columns if name not in known]
    absent = [trait for trait in traits if trait.name not in table and trait.column not in table]
    if len(table) and len(absent) == len(traits) > 0:
        raise TableError(
            f"{_NAME} has no column of a trait; it has {', '.join(map(str, table.columns))}. Known traits are "
            f"{', '.join(raw_columns(traits)[1:])}; give those that were measured."
        )
    for trait in absent:
        alike = difflib.get_close_matches(trait.column, further, n=1, cutoff=0.75)
        if len(table) and not trait.optional:
            raise TableError(
                f"{_NAME} lacks the column {trait.column} of the trait {trait.name}; it has "
                f"{', '.join(map(str, table.columns))}: set the trait's `column`"
                f"{f' to {alike[0]}' if alike else ''}, or `optional: true` if it was not measured."
            )
        if alike:
            logger.warning(
                "%s has the column %s, which is left out; the trait %s, which it lacks, counts as not measured. If it "
                "is that trait, rename it.",
                *(_NAME, alike[0], trait.column),
            )
    codes = {}
    for trait in traits:
        for column in {trait.name, trait.column} & set(table.columns):
            if trait.is_class and not (trait.transform == _PRESENCE and column == trait.column):
                codes[column] = _codes(table, column, trait)
    empty = {trait.column: np.nan for trait in traits if trait.column not in table}
    return table.assign(**codes, **empty)


def _codes(table: pd.DataFrame, column: str, trait: Trait) -> pd.Series:
    """Codes of the classes in a column of names or codes; NaN where it is empty or says that nothing is known."""
    cells = table[column]
    texts = cells.astype(object).where(cells.notna(), "").map(_as_text)
    by_name = {name: float(code) for code, name in enumerate(trait.classes)}
    named = texts.map(by_name)
    is_empty = texts.isin(["", *trait.not_annotated])
    codes = named
    if not any(_is_number(name) for name in trait.classes):
        numbers = pd.to_numeric(texts, errors="coerce")
        codes = named.fillna(numbers.where(numbers.isin(range(len(trait.classes)))))
    bad = codes.isna() & ~is_empty
    if bad.any():
        id_column = "syn_id" if "syn_id" in table else "synapse_id"
        raise TableError(
            f"{_NAME}'s {column} holds {some(pd.unique(texts[bad]))}, as for synapse "
            f"{table.loc[bad, id_column].iloc[0]}, which is none of the classes of the trait {trait.name} "
            f"({', '.join(trait.classes)}): declare it in the parameter traits, or list it there under not_annotated."
        )
    return codes.where(~is_empty).astype("float64")


def _as_text(cell: object) -> str:
    """Text of a cell, with whole numbers as integers and truth values as 0 and 1."""
    if isinstance(cell, (bool, np.bool_)):
        return str(int(cell))
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _transformed(values: pd.Series, transform: str) -> tuple[pd.Series, float, float]:
    if transform == "none":
        return values, 0.0, 1.0
    numbers = values if transform == "zscore" else np.log1p(values)
    measured = numbers[values > 0] if transform == "log1p_zscore_zi" else numbers.dropna()
    location = float(measured.mean()) if len(measured) else 0.0
    scale = float(measured.std(ddof=0)) if len(measured) > 1 else 1.0
    scores = (numbers - location) / (scale or 1.0)
    if transform == "log1p_zscore_zi":
        scores = scores.mask(values == 0, -np.inf)
    return scores, location, scale or 1.0
