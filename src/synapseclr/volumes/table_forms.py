"""Tables of synapses in the forms in which people have them, brought into one.

A form says which columns hold ids and positions, and in what unit. The standard table that comes out has ``id``,
``pre_root_id``, ``post_root_id`` and the centre, as ``ctr_pos_{x,y,z}_vx`` where the unit is left to
``preprocessing.position_voxel_size_nm``, or as ``ctr_pos_{x,y,z}_nm`` where the form tells it. Further columns stay.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.errors import TableError
from synapseclr.volumes.synapse_table import UNIT_NM
from synapseclr.volumes.table_schema import as_ids, check_columns, some, strip_names

VoxelSize: TypeAlias = tuple[float, float, float]
Polyadic: TypeAlias = Literal["pairs", "connectors"]

AXES = ("x", "y", "z")
FORM = "form"
"""Attribute of a standard table: name of the form in which it was."""

_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_SEPARATOR = r"\s*[,;\s]\s*"
_TRIPLE = rf"^\s*[\[(]?\s*({_NUMBER}){_SEPARATOR}({_NUMBER}){_SEPARATOR}({_NUMBER})\s*[\])]?\s*$"
_NUMPY_NUMBER = r"np\.\w+\(([^()]*)\)"  # a list of numpy's numbers in a text: "[np.int64(52), np.int64(142), ...]"
_TRUE, _FALSE = ("true", "t", "1", "1.0"), ("false", "f", "0", "0.0")
_CREMI_PAIRS, _CREMI_LABELS = "annotations/presynaptic_site/partners", "volumes/labels/neuron_ids"
_CREMI_POINTS = ("annotations/ids", "annotations/locations")
_RESOLUTIONS = ("dataframe_resolution", "table_voxel_resolution")  # attributes that caveclient leaves in a table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableForm:
    """Names and units of a kind of synapse table.

    Attributes:
        title: What messages call it, with an article.
        pre: Column of the presynaptic neurite's id.
        post: Column of the postsynaptic neurite's id.
        points: Stem of the columns of the centre, or stems of those of the presynaptic and the postsynaptic point,
            with the centre in their middle.
        id: Column of the synapse's id; None: rows are numbered from 1, in their order.
        split: Name of the column of one axis of a point, by ``stem`` and ``axis``. One column named after the stem,
            with triples (lists, arrays, or texts such as "[52, 142, 70]"), does as well.
        unit_nm: Size in nm of one unit of the positions; None: the table's attributes or the user tells it.
        connector: Columns or stems that are equal in all rows of one presynaptic site; empty: not told apart.
        validity: Column that is false for rows that count as deleted.
    """

    title: str
    pre: str
    post: str
    points: tuple[str, ...]
    id: str | None = "id"
    split: str = "{stem}_{axis}"
    unit_nm: VoxelSize | None = None
    connector: tuple[str, ...] = ()
    validity: str | None = None

    def split_names(self, stem: str) -> list[str]:
        """The three columns of a point."""
        return [self.split.format(stem=stem, axis=axis) for axis in AXES]

    def columns_of(self, table: pd.DataFrame, stem: str) -> list[str]:
        """The three columns of a point, or the one of triples; empty if the table has neither."""
        split = self.split_names(stem)
        if all(name in table for name in split):
            return split
        return [stem] if stem in table else []

    def fits(self, table: pd.DataFrame) -> bool:
        """Tell whether a table has all columns of this form."""
        return all(name in table for name in self.ids) and all(self.columns_of(table, stem) for stem in self.points)

    @property
    def ids(self) -> list[str]:
        """Columns of ids."""
        return [*([self.id] if self.id is not None else []), self.pre, self.post]

    @property
    def needed(self) -> list[str]:
        """All columns, positions in three each."""
        return [*self.ids, *(name for stem in self.points for name in self.split_names(stem))]

    @property
    def _subject(self) -> str:
        return f"The synapse table, read as {self.title},"


_NM = (1.0, 1.0, 1.0)
FORMS: dict[str, TableForm] = {
    "synapseclr": TableForm(
        "a table of this project", "pre_root_id", "post_root_id", ("ctr_pos",), split="{stem}_{axis}_vx"
    ),
    "synapseclr_nm": TableForm(
        "a table of this project in nm",
        "pre_root_id",
        "post_root_id",
        ("ctr_pos",),
        split="{stem}_{axis}_nm",
        unit_nm=_NM,
    ),
    # synapses_pni_2 of minnie65 and the like, under CAVE's own names.
    "cave": TableForm("a CAVE table", "pre_pt_root_id", "post_pt_root_id", ("ctr_pt_position",), validity="valid"),
    # Buhmann et al. 2021, doi:10.1038/s41592-021-01183-7, as FlyWire serves them: a point on either side.
    "cave_two_points": TableForm(
        "a CAVE table of pre- and postsynaptic points",
        "pre_pt_root_id",
        "post_pt_root_id",
        ("pre_pt_position", "post_pt_position"),
        connector=("pre_pt_root_id", "pre_pt_position"),
        validity="valid",
    ),
    # neuPrint's export of synapse connections; in hemibrain, MANC and male CNS a voxel is 8 nm wide.
    "neuprint": TableForm(
        "a neuPrint table",
        "bodyId_pre",
        "bodyId_post",
        ("pre", "post"),
        id=None,
        split="{axis}_{stem}",
        unit_nm=(8.0, 8.0, 8.0),
        connector=("bodyId_pre", "pre"),
    ),
    # Flat connectomes of FlyEM, as of the male CNS: syn-partners-*.feather.
    "flyem": TableForm(
        "a table of a FlyEM flat connectome",
        "body_pre",
        "body_post",
        ("pre", "post"),
        id=None,
        split="{axis}_{stem}",
        unit_nm=(8.0, 8.0, 8.0),
        connector=("body_pre", "pre"),
    ),
    # The parquet files of the sjcabs releases of fly connectomes; positions in nm.
    "sjcabs": TableForm(
        "an sjcabs table", "pre", "post", ("",), id=None, split="{axis}", unit_nm=_NM, connector=("connector_id",)
    ),
    # H01's export with its nested records flattened.
    "h01": TableForm(
        "an H01 export",
        "pre_synaptic_site.neuron_id",
        "post_synaptic_partner.neuron_id",
        ("location",),
        id=None,
        split="{stem}.{axis}",
    ),
    # As read_cremi makes it; ids of presynaptic points repeat where they have several partners.
    "cremi": TableForm(
        "the synapses of a CREMI file",
        "pre_root_id",
        "post_root_id",
        ("pre_pos", "post_pos"),
        id=None,
        split="{stem}_{axis}_nm",
        unit_nm=_NM,
        connector=("pre_site_id",),
    ),
}


def recognise(table: pd.DataFrame) -> str:
    """Name the form of a table by its columns.

    Raises:
        TableError: If it has the columns of none; says what each needs.
    """
    named = strip_names(table, _known_names())
    for name, form in FORMS.items():
        if form.fits(named):
            return name
    known = "; ".join(f"{name}: {', '.join(form.needed)}" for name, form in FORMS.items())
    raise TableError(
        f"The synapse table is in no known form; it has {', '.join(map(str, table.columns)) or 'no columns'}. Rename "
        f"them to those of one of these. {known}. A position may also be one column of triples, as ctr_pt_position."
    )


def standard_synapse_table(
    table: pd.DataFrame,
    form: str = "auto",
    unit_nm: VoxelSize | None = None,
    polyadic: Polyadic = "pairs",
) -> pd.DataFrame:
    """Bring a synapse table into the standard form.

    Args:
        table: In any of ``FORMS``. It is not changed.
        form: Its name; ``auto`` recognises it by its columns.
        unit_nm: Size in nm of one unit of its positions (x, y, z), unless the names of its columns say that; None: what
            the table's attributes or its form say.
        polyadic: ``pairs`` keeps a row for each pair of neurites; ``connectors`` keeps the first row of each
            presynaptic site, with ``n_partners`` (int64) and ``partner_root_ids``, the ids of all partners as text.

    Returns:
        ``id``; ``pre_root_id`` and ``post_root_id``, of one 64-bit integer type; ``ctr_pos_{x,y,z}_nm`` or, where no
        unit is known, ``ctr_pos_{x,y,z}_vx``, float64. A form with two points adds ``pre_pos_...`` and ``post_pos_...``
        likewise. Then the further columns, as they were. Rows that the table itself calls invalid are left out.

    Raises:
        TableError: If the form is unknown, a column is missing, an id is damaged or missing, a position cannot be
            read, or ``connectors`` is asked of a table that does not tell presynaptic sites apart.
    """
    form = recognise(table) if form == "auto" else form
    chosen = _form(form)
    named = strip_names(table, _known_names())
    subject = chosen._subject
    check_columns(named, chosen.ids, subject)
    for stem in chosen.points:
        if not chosen.columns_of(named, stem):
            check_columns(named, chosen.needed, subject)
    valid = _valid_rows(named, chosen)

    ids = {"id": np.arange(1, len(valid) + 1) if chosen.id is None else valid[chosen.id]}
    roots = {side: as_ids(valid[name], name, subject, n_bits=64) for side, name in _roots(chosen).items()}
    if any(values.dtype == np.uint64 for values in roots.values()):
        roots = {side: values.astype("uint64") for side, values in roots.items()}
    points = [_points(valid, chosen, stem) for stem in chosen.points]
    # Columns that are named after nm are in nm, whatever the catalog says of the table that they were made from.
    unit = _NM if chosen.split.endswith("_nm") else unit_nm or chosen.unit_nm or _unit_of_attributes(table)
    positions = _named_positions(points, unit)
    used = {*chosen.ids, *(name for stem in chosen.points for name in chosen.columns_of(valid, stem))}
    further = valid[[name for name in valid.columns if name not in used | positions.keys()]]
    whole = pd.concat([pd.DataFrame(ids | roots | positions, index=valid.index), further], axis=1)
    if polyadic == "connectors":
        whole = _one_row_a_connector(whole, _connectors(valid, chosen))
    logger.info("The synapse table is read as %s: %d synapses.", chosen.title, len(whole))
    whole = whole.reset_index(drop=True)
    whole.attrs |= {FORM: form} | ({} if unit is None else {UNIT_NM: tuple(map(float, unit))})
    return whole


def _form(name: str) -> TableForm:
    if name not in FORMS:
        raise TableError(f"There is no form '{name}' of synapse tables. Choose auto or one of: {', '.join(FORMS)}.")
    return FORMS[name]


def _roots(form: TableForm) -> dict[str, str]:
    return {"pre_root_id": form.pre, "post_root_id": form.post}


def _known_names() -> set[str]:
    return {name for form in FORMS.values() for name in (*form.needed, *form.points, *form.connector) if name}


def _valid_rows(table: pd.DataFrame, form: TableForm) -> pd.DataFrame:
    if form.validity is None or form.validity not in table:
        return table
    said = table[form.validity].astype(str).str.strip().str.casefold()
    unknown = table[form.validity][~said.isin([*_TRUE, *_FALSE])]
    if len(unknown):
        raise TableError(
            f"{form._subject} has {form.validity} {some(unknown.unique())}; expected true or false. Drop the column if "
            "all rows count."
        )
    is_valid = said.isin(_TRUE)
    if not is_valid.all():
        logger.warning("%d rows of the synapse table are marked as not valid and left out.", int((~is_valid).sum()))
    return table[is_valid]


def _unit_of_attributes(table: pd.DataFrame) -> VoxelSize | None:
    for name in _RESOLUTIONS:
        given = table.attrs.get(name)
        if given is not None and len(given) == 3:
            x, y, z = map(float, given)
            return x, y, z
    return None


def _named_positions(points: list[NDArray[np.float64]], unit_nm: VoxelSize | None) -> dict[str, NDArray[np.float64]]:
    """Columns of the centre, and of the points (n, 3) that it is the middle of if there are several."""
    scale, suffix = (np.ones(3), "vx") if unit_nm is None else (np.asarray(unit_nm), "nm")
    named = {"ctr_pos": np.mean(points, axis=0)}
    if len(points) > 1:
        named |= dict(zip(("pre_pos", "post_pos"), points, strict=True))
    return {
        f"{stem}_{axis}_{suffix}": point_nd[:, d] * scale[d]
        for stem, point_nd in named.items()
        for d, axis in enumerate(AXES)
    }


def _points(table: pd.DataFrame, form: TableForm, stem: str) -> NDArray[np.float64]:
    """Positions (n, 3) of three columns, or of one column of triples."""
    columns = form.columns_of(table, stem)
    if len(columns) == 3:
        split = table[columns]
    else:
        # arrays are printed as "[52 142 70]", lists as "[52, 142, 70]": all of them are three numbers in a text
        text = table[columns[0]].map(_as_text).str.replace(_NUMPY_NUMBER, r"\1", regex=True)
        split = text.str.extract(_TRIPLE)
    numbers = split.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        rows = table[bad]
        shown = some(rows[columns].astype(str).agg(" ".join, axis=1))
        who = f"synapse {some(rows[form.id])}" if form.id is not None else f"row {some(rows.index)}"
        raise TableError(
            f"{form._subject} has no position in {', '.join(columns)} for {who}: {shown}. Expected three numbers, as "
            "[52, 142, 70] or (52 142 70), or one in each of three columns."
        )
    return numbers


def _as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple | np.ndarray) else str(value)


def _connectors(table: pd.DataFrame, form: TableForm) -> NDArray[np.int64]:
    """A number for the presynaptic site of every row, by first appearance."""
    keys = []
    for name in form.connector or ("connector_id",):
        if name in form.points:
            keys += list(_points(table, form, name).T)
        elif name in table:
            keys.append(table[name].to_numpy())
        else:
            raise TableError(
                f"{form._subject} does not say which rows share a presynaptic site: it lacks the column {name}. "
                "Add it, or leave polyadic at pairs."
            )
    groups = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys))), sort=False)
    return np.asarray(groups.ngroup(), np.int64)


def _one_row_a_connector(table: pd.DataFrame, connector_n: NDArray[np.int64]) -> pd.DataFrame:
    """The first row of every connector, with the number and the ids of all its partners."""
    groups = table.groupby(connector_n)  # in the order of first appearance
    first = groups.head(1).copy()
    first["n_partners"] = groups.size().to_numpy(np.int64)
    first["partner_root_ids"] = groups["post_root_id"].agg(lambda ids: " ".join(map(str, ids))).to_numpy()
    return first


def read_cremi(file: IO[bytes]) -> pd.DataFrame:
    """Read the synapses of a CREMI file (https://cremi.org/data): pairs of annotated points, in nm.

    Neurites are those of ``volumes/labels/neuron_ids`` at the points. Positions count from the corner of
    ``volumes/raw``, out of which padded files cut the labels.

    Args:
        file: HDF5, open for reading bytes; must be seekable.

    Returns:
        A table of the form ``cremi``, in the order of the file's pairs; ``pre_site_id`` and ``post_site_id`` are
        the ids of the two points.

    Raises:
        TableError: If annotations or labels are missing, or a pair names a point that is not annotated.
    """
    import h5py

    with h5py.File(file, "r") as h5:
        missing = [name for name in (_CREMI_PAIRS, _CREMI_LABELS, *_CREMI_POINTS) if name not in h5]
        if missing:
            raise TableError(f"the file is not a CREMI file with synapses: it lacks {', '.join(missing)}.")
        pairs_n2 = h5[_CREMI_PAIRS][:]
        ids, locations = (h5[name][:] for name in _CREMI_POINTS)
        labels = h5[_CREMI_LABELS]
        to_volume, corner = _zyx(h5["annotations"], "offset", 0.0), _zyx(labels, "offset", 0.0)
        unit_zyx = _zyx(labels, "resolution", 1.0)
        row_of = pd.Series(np.arange(len(ids)), index=ids)
        unknown = ~np.isin(pairs_n2, ids)
        if unknown.any():
            raise TableError(f"partners name the points {some(pairs_n2[unknown])}, which are not in annotations/ids.")
        table = {"pre_site_id": pairs_n2[:, 0], "post_site_id": pairs_n2[:, 1]}
        for side, site_ids in zip(("pre", "post"), pairs_n2.T, strict=True):
            point_n3 = locations[row_of.loc[site_ids].to_numpy()] + to_volume
            voxel_n3 = np.floor((point_n3 - corner) / unit_zyx).astype(np.int64)
            outside = ((voxel_n3 < 0) | (voxel_n3 >= labels.shape)).any(axis=1)
            if outside.any():
                raise TableError(f"the points {some(site_ids[outside])} lie outside of {_CREMI_LABELS}.")
            table[f"{side}_root_id"] = np.array([labels[tuple(voxel)] for voxel in voxel_n3], np.uint64)
            table |= {f"{side}_pos_{axis}_nm": point_n3[:, d] for axis, d in zip(AXES, (2, 1, 0), strict=True)}
    return pd.DataFrame(table)


def _zyx(node: Any, attribute: str, default: float) -> NDArray[np.float64]:
    return np.asarray(node.attrs.get(attribute, (default,) * 3), np.float64)
