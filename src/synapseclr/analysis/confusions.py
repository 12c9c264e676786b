"""Confusion matrices: which class is taken for which, of synapses and of neurites that no model saw."""

from __future__ import annotations

import pandas as pd

from synapseclr.volumes.table_schema import COUNT, SHARE, TEXT, TableSchema

CLASS_CONFUSIONS = TableSchema(
    "The table of confused classes",
    {
        "trait": TEXT,
        "true_class": TEXT,
        "predicted_class": TEXT,
        "n": COUNT,
        "share": SHARE,
    },
)


def class_confusions(held_out: pd.DataFrame) -> pd.DataFrame:
    """Count predictions of held-out synapses by true class, for traits of several classes.

    Args:
        held_out: Held-out predictions of the imputation, one row per synapse and class; those held out by neurite
            count.

    Returns:
        One row per trait, true class and predicted class (the most probable one): ``n`` synapses, and their ``share``
        of the true class.
    """
    rows = held_out[(held_out["split"] == "neurite") & held_out["class_name"].notna()]
    return confusions_of(rows.assign(is_true=rows["target"] == 1.0), ["trait", "synapse_id"], "mean")


def neurite_confusions(held_out: pd.DataFrame) -> pd.DataFrame:
    """The same of held-out neurites; the property stands in the place of the trait."""
    rows = held_out.rename(columns={"property": "trait"}).assign(is_true=held_out["is_annotated"].astype(bool))
    return confusions_of(rows, ["trait", "root_id"], "probability")


def confusions_of(rows: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Confusions of a table with one row per subject and class.

    Args:
        rows: ``trait``, the subject's id, ``class_name``, ``is_true``, and the probability of the class.
        keys: ``trait`` and the name of the id.
        column: Name of the probability.
    """
    columns = list(CLASS_CONFUSIONS.columns)
    if rows.empty:
        return pd.DataFrame(columns=columns)
    true = rows[rows["is_true"]].set_index(keys)["class_name"].rename("true_class")
    ranked = rows.sort_values(column, ascending=False, kind="stable").drop_duplicates(keys)
    predicted = ranked.set_index(keys)["class_name"].rename("predicted_class")
    both = pd.concat([true, predicted], axis=1).dropna().reset_index()
    parts = []
    for trait, of_trait in both.groupby("trait", sort=False):
        names = list(dict.fromkeys(rows.loc[rows["trait"] == trait, "class_name"]))
        counts = pd.crosstab(of_trait["true_class"], of_trait["predicted_class"])
        counts = counts.reindex(index=names, columns=names, fill_value=0)
        found = counts.rename_axis("true_class").melt(ignore_index=False, var_name="predicted_class", value_name="n")
        found = found.reset_index()
        of_class = found.groupby("true_class")["n"].transform("sum")
        parts.append(found.assign(trait=trait, share=(found["n"] / of_class.where(of_class > 0)).fillna(0.0)))
    return pd.concat(parts, ignore_index=True)[columns]
