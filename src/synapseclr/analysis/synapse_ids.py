"""Synapse ids as parameters: in a list, alone, or on the command line, where a comma means the next parameter."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BeforeValidator

from synapseclr.errors import TableError


def parse_synapse_ids(value: Any) -> Any:
    """Read ids given as a number, a list, or a text such as ``12+34``.

    Args:
        value: As it stands in the parameters.

    Returns:
        A tuple of integers; anything that is none of these is returned as it is, for the model to refuse.

    Raises:
        ValueError: If a text holds something other than whole numbers.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str):
        parts = [part for part in re.split(r"[+,;\s]+", value) if part]
        if not all(re.fullmatch(r"\d+", part) for part in parts):
            raise ValueError(f"'{value}' is not a list of synapse ids; write 12 or 12+34")
        return tuple(int(part) for part in parts)
    return value


def is_chunk_path(value: Any) -> bool:
    """Test that a query names a file rather than synapses: a text that is no list of whole numbers."""
    return isinstance(value, str) and bool(value.strip()) and not re.fullmatch(r"[\d+,;\s]+", value)


def parse_query(value: Any) -> Any:
    """Read what to search for: ids, as :func:`parse_synapse_ids` does, or the path of a chunk, which stays a text."""
    looks_like_path = is_chunk_path(value) and any(mark in value for mark in ("/", ".npy", ".zarr"))
    return value if looks_like_path else parse_synapse_ids(value)


SynapseIds = Annotated[tuple[int, ...], BeforeValidator(parse_synapse_ids)]
"""Type of a parameter that holds synapse ids."""

QueryValue = Annotated[tuple[int, ...] | str, BeforeValidator(parse_query)]
"""Type of a parameter that holds synapse ids or the path of a chunk."""


def rows_of_ids(wanted: tuple[int, ...], synapse_id: np.ndarray, parameter: str) -> np.ndarray:
    """Find synapses by id.

    Args:
        wanted: Ids, each looked up once.
        synapse_id: int64 (n,): ids of all rows.
        parameter: Name of the parameter that gave them, for the message.

    Returns:
        int64 (w,): rows, in the order asked for.

    Raises:
        TableError: If an id has no embedding, with the ids and what may be the matter.
    """
    row_of = {int(identifier): row for row, identifier in enumerate(synapse_id)}
    distinct = list(dict.fromkeys(wanted))
    unknown = [identifier for identifier in distinct if identifier not in row_of]
    if unknown:
        raise TableError(
            f"Parameter {parameter} names synapses without embedding: {unknown}. There are {len(row_of)} embedded "
            f"synapses here, such as {list(row_of)[:3]}. A synapse of the table that is missing was rejected by "
            "preprocessing, whose report says why, or is left out as defective (outliers.exclude)."
        )
    return np.array([row_of[identifier] for identifier in distinct], dtype=np.int64)


def aligned_rows(wanted_id: np.ndarray, present_id: np.ndarray, name: str) -> np.ndarray:
    """Rows of a table in the order of the synapses wanted.

    Args:
        wanted_id: Ids of the embedded synapses, (n,).
        present_id: Ids of the table's rows; may hold more.
        name: Name of the table, for the message.

    Raises:
        TableError: If the table lacks a synapse, with the ids and what to do.
    """
    rows_n = pd.Index(present_id).get_indexer(pd.Index(wanted_id))
    if (rows_n < 0).any():
        missing = np.asarray(wanted_id)[rows_n < 0].tolist()
        raise TableError(
            f"'{name}' lacks {len(missing)} synapses that 'synapse_embeddings' holds, such as {missing[:3]}: run "
            "`kedro run --pipeline=embedding` again."
        )
    return rows_n
