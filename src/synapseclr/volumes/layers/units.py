"""Units of length, as writers of volumes spell them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from synapseclr.errors import VolumeError

if TYPE_CHECKING:
    from synapseclr.volumes.layers.layer import VolumeLayer

_NM_OF_SYMBOL = {"pm": 1e-3, "nm": 1.0, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
_NM_OF_PREFIX = {"pico": 1e-3, "nano": 1.0, "micro": 1e3, "milli": 1e6, "centi": 1e7, "": 1e9}
_WORD = re.compile(r"(pico|nano|micro|milli|centi|)met(?:er|re)s?")
_ANGSTROM = ("angstrom", "angstroms", "\u00e5ngstr\u00f6m")
_MICRON = ("micron", "microns")


def length_nm(unit: str) -> float | None:
    """Length of a unit in nm; None if it is no unit of length that is known here.

    Understood are the names of NGFF and UDUNITS (``nanometer``), British spelling and plurals (``nanometres``), symbols
    (``nm``, ``um``, and both code points of the micro sign), ``micron``, and the angstrom by name and symbol. Words may
    be of any case; of symbols ``Mm`` is not ``mm``.
    """
    # NFKC makes one of the micro sign and mu, and of the angstrom sign and A with ring.
    symbol = unicodedata.normalize("NFKC", unit.strip())
    if symbol == "\u00c5":
        return 0.1
    symbol = symbol.replace("\u03bc", "u")
    if symbol in _NM_OF_SYMBOL:
        return _NM_OF_SYMBOL[symbol]
    word = symbol.casefold()
    if word in _ANGSTROM:
        return 0.1
    if word in _MICRON:
        return 1e3
    found = _WORD.fullmatch(word)
    return _NM_OF_PREFIX[found[1]] if found else None


def nm_of_unit(layer: VolumeLayer, axis: str, unit: str | None) -> float:
    """Length in nm of the unit of a layer's axis. The catalog's ``unit:`` goes before the file's.

    Args:
        layer: Whose axis; ``layer.unit`` is the catalog's.
        axis: Its name.
        unit: What the file says, if anything.

    Raises:
        VolumeError: If neither names a unit that is known here.
    """
    chosen = layer.unit or unit
    nm = length_nm(chosen) if chosen else None
    if nm is None:
        said = f"has the unit {chosen}" if chosen else "has no unit"
        source = ", which the catalog names" if layer.unit else ""
        raise VolumeError(
            f"The axis {axis} of the {layer.role} at {layer.uri} {said}{source}. Give one of angstrom, picometer, "
            "nanometer (or nm), micrometer (or um, micron), millimeter, centimeter, meter as `unit:` in the catalog, "
            "which goes before what the file says."
        )
    return nm
