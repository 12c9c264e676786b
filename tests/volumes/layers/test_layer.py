"""Units of length in the spellings that writers of volumes use."""

import pytest

from synapseclr.errors import VolumeError
from synapseclr.volumes import PrecomputedLayer
from synapseclr.volumes.layers.layer import length_nm

SPELLINGS = {
    0.1: ["angstrom", "Angstrom", "\u00c5", "\u212b", "\u00e5ngstr\u00f6m", "A\u030a"],
    1.0: ["nm", "nanometer", "nanometre", "nanometers", "nanometres", "Nanometer", " nm "],
    1e3: ["um", "\u00b5m", "\u03bcm", "micron", "microns", "Micron", "micrometer", "micrometre", "micrometers"],
    1e-3: ["pm", "picometre"],
    1e6: ["mm", "millimeter"],
    1e7: ["cm", "centimetre"],
    1e9: ["m", "meter", "metre"],
}


@pytest.mark.parametrize(("nm", "unit"), [(nm, unit) for nm, units in SPELLINGS.items() for unit in units])
def test_every_spelling_is_understood(nm, unit):
    assert length_nm(unit) == nm


@pytest.mark.parametrize("unit", ["parsec", "Mm", "pixel", "px", "second", "meterx", "nmm", "A", ""])
def test_what_is_no_known_unit_of_length_is_not_guessed(unit):
    assert length_nm(unit) is None


def test_the_catalog_goes_before_the_file():
    assert PrecomputedLayer("file:///v", unit="nm").nm_of_unit("x", "um") == 1.0
    assert PrecomputedLayer("file:///v").nm_of_unit("x", "um") == 1e3
    with pytest.raises(VolumeError, match="The axis x of the volume at file:///v has the unit px, which the catalog"):
        PrecomputedLayer("file:///v", unit="px").nm_of_unit("x", "um")
