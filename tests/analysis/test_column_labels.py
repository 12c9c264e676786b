"""Names, units and numbers for people."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.column_labels import column_label, measured_values, number_text, value_text
from synapseclr.analysis.traits import trait_named


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n_mitos_pre", "number of presynaptic mitochondria"),
        ("tilt_deg", "tilt of the cleft normal (°)"),
        ("cleft_size_vx", "cleft size (voxels)"),
        ("cleft_size_log1p_zscore", "cleft size (z-score of the logarithm)"),
        ("cleft_area_nm2", "cleft area (nm²)"),
        ("pre_cell_type", "presynaptic cell type"),
        ("pre_spine_um3", "presynaptic spine (µm³)"),
        ("n_ribosomes", "number of ribosomes"),
        ("n_vesicles_pre", "number of presynaptic vesicles"),
        ("has_spine", "spine"),
        ("gap_pre_post_nm", "gap presynaptic postsynaptic (nm)"),
        ("is_odd", "odd"),
        ("_um", "_um (µm)"),
    ],
)
def test_columns_have_names_and_units(name, said):
    assert str(column_label(name)) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (19640.4, "19,640"),
        (225.0, "225"),
        (0.50001, "0.5"),
        (-0.7412, "-0.741"),
        (0.0, "0"),
        (-0.0, "0"),
        (np.nan, "no value"),
        (-np.inf, "no value"),
        (1.81e-10, "1.8 \N{MULTIPLICATION SIGN} 10⁻¹⁰"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value, said):
    assert number_text(value) == said


def test_cells_say_classes_and_absences():
    assert value_text("pre_cell_type", 0.0) == "excitatory"
    assert value_text("mito_size_pre_vx_log1p_zscore_zi", -np.inf) == "presynaptic mitochondria: none"
    assert value_text("tilt_deg", 12.345) == "12.3°"
    assert value_text("pre_root_id", np.uint64(2**63 + 1)) == str(2**63 + 1)
    assert value_text("is_padded", np.True_) == "yes"


def test_annotated_scores_return_to_their_unit():
    sizes = np.array([80.0, 225.0, 1000.0])
    logs = np.log1p(sizes)
    scales = pd.DataFrame(
        {"trait": ["cleft_size_log1p_zscore"], "transform": ["log1p_zscore"], "location": [logs.mean()], "scale": [2.0]}
    )
    trait = trait_named("cleft_size_log1p_zscore")
    np.testing.assert_allclose(measured_values((logs - logs.mean()) / 2.0, trait, scales), sizes)
    assert measured_values(sizes, trait, scales.iloc[:0]) is None
    assert measured_values(sizes, trait_named("pre_cell_type"), scales) is None
