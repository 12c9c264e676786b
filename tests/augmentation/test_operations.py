"""Lists of operations: their order, their parameters, and operations that others add."""

import re
import sys
import textwrap

import pytest
import torch
from documentation import PROJECT
from pydantic import ValidationError

from synapseclr.augmentation import AugmentationConfig, Augmenter, operations
from synapseclr.augmentation.config import OPERATIONS, PUBLISHED_OPERATIONS, find_operation
from synapseclr.errors import SynapseCLRError

SMALL = AugmentationConfig(axial_to_sagittal_spacing=2.5).resized(20, 12)


@pytest.fixture(params=["in the folder", "elsewhere"])
def with_inversion(request, monkeypatch, tmp_path):
    """The example of docs/extending.md, as it stands there: a file, and a line in the list."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", (PROJECT / "docs/extending.md").read_text(), re.S | re.M)
    (example,) = [textwrap.dedent(block) for block in blocks if "(Operation)" in block]
    if request.param == "in the folder":
        (tmp_path / "inversion.py").write_text(example)
        monkeypatch.setattr(operations, "__path__", [*operations.__path__, str(tmp_path)])
        module, name = f"{operations.__name__}.inversion", "inversion"
    else:
        (tmp_path / "operations_of_mine.py").write_text(example)
        monkeypatch.syspath_prepend(tmp_path)
        module, name = "operations_of_mine", "operations_of_mine.Inversion"
    yield (*OPERATIONS[:-1], {name: {"inversion_prob": 1.0}}, "z_score")
    sys.modules.pop(module, None)


def test_an_operation_of_ones_own_is_a_class_and_a_line(with_inversion, make_chunk):
    plain = AugmentationConfig.extract(axial_to_sagittal_spacing=2.5).resized(20, 12)
    chunk = make_chunk(2, (24, 24, 8))
    before = Augmenter(plain)(chunk).intensity_bcxyz * 0.28 + 0.44
    after = Augmenter(plain.replaced(operations=with_inversion))(chunk).intensity_bcxyz * 0.28 + 0.44
    shown = before > 1e-3
    torch.testing.assert_close(after[shown], 1 - before[shown], atol=1e-5, rtol=0)
    assert float(after[~shown].abs().max()) < 1e-3


def test_extraction_leaves_out_what_is_random_also_of_others(with_inversion):
    config = SMALL.replaced(operations=with_inversion).for_extraction()
    assert [name for name, _ in config.listed_operations()] == ["resampling", "active_zone", "z_score"]


def test_every_operation_is_found_by_its_name_and_has_the_published_fields():
    fields = set(AugmentationConfig.model_fields)
    for name in {*OPERATIONS, *PUBLISHED_OPERATIONS}:
        kind = find_operation(name)
        assert kind.name == name
        assert set(kind.model_fields) <= fields
        defaults = {field: getattr(AugmentationConfig(), field) for field in kind.model_fields}
        assert kind().model_dump() == kind(**defaults).model_dump()


def test_a_parameter_in_the_list_wins_over_the_field_of_its_name():
    operations = tuple(
        {"gaussian_blur": {"gaussian_blur_prob": 1.0}} if n == "gaussian_blur" else n for n in OPERATIONS
    )
    blur = [
        each for each in Augmenter(SMALL.replaced(operations=operations)).operations if each.name == "gaussian_blur"
    ]
    assert blur[0].gaussian_blur_prob == 1.0
    assert blur[0].gaussian_blur_sigmas == SMALL.gaussian_blur_sigmas


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (("rotation", "z_score"), "must hold 'resampling' once"),
        (("resampling", "z_score", "pixel_noise"), "end with 'z_score'"),
        (("resampling", "rotation", "z_score"), "rotation stands on the wrong side"),
        (("pixel_noise", "resampling", "z_score"), "pixel_noise stands on the wrong side"),
        (
            ("resampling", "sharpen", "z_score"),
            "no operation 'sharpen'.* are: active_zone.*magnification",
        ),
        (("resampling", "json.JSONDecoder", "z_score"), "no subclass of Operation named 'JSONDecoder'"),
        (("resampling", {"pixel_noise": {}, "flips": {}}, "z_score"), "an operation with parameters is"),
    ],
)
def test_lists_that_make_no_view_are_refused(operations, message):
    with pytest.raises(ValidationError, match=message):
        AugmentationConfig(operations=operations)


def test_an_unknown_parameter_of_a_listed_operation_is_refused():
    operations = ("resampling", {"gaussian_blur": {"strength": 2}}, "z_score")
    with pytest.raises(ValidationError, match="strength"):
        Augmenter(SMALL.replaced(operations=operations))


def test_a_magnified_view_is_that_of_a_smaller_crop(make_chunk):
    """At one voxel a pixel nothing is averaged away in the preparation, so both see the same voxels."""
    chunk = make_chunk(2, (24, 24, 8))
    config = AugmentationConfig.extract(axial_to_sagittal_spacing=2.5, enable_active_zone=False)
    whole, half = (config.replaced(final_crop_size=size, final_img_size=16) for size in (16, 8))
    augmenter = Augmenter(whole.replaced(operations=({"magnification": {}}, "resampling", "z_score")))
    prepared = augmenter.prepare(chunk)
    (view,) = augmenter.replay(prepared, [{"magnification": torch.tensor([1.0, 2.0])}])
    expected = [Augmenter(each)(chunk).intensity_bcxyz[row] for row, each in enumerate((whole, half))]
    torch.testing.assert_close(view.intensity_bcxyz, torch.stack(expected), atol=1e-4, rtol=0)


def test_magnifications_are_drawn_by_sample_and_left_out_of_extraction():
    config = SMALL.replaced(
        operations=({"magnification": {"magnification_max": 2.0}}, *OPERATIONS), batch_mode="decoupled"
    )
    factor = Augmenter(config).draw_for(2000, 8, torch.Generator().manual_seed(0))["magnification"]
    assert 1.0 <= float(factor.min()) < 1.01
    assert 1.99 < float(factor.max()) <= 2.0
    assert float(factor.log2().mean()) == pytest.approx(0.5, abs=0.03)
    assert "magnification" not in dict(config.for_extraction().listed_operations())
    with pytest.raises(ValueError, match="which magnification are not"):
        Augmenter(config.replaced(fidelity="published"))


def test_the_image_is_magnified_before_it_is_sampled():
    with pytest.raises(ValidationError, match="magnification stands on the wrong side of 'resampling'"):
        SMALL.replaced(operations=("resampling", "magnification", "z_score"))


def test_published_fidelity_refuses_chunks_that_are_not_square(make_chunk):
    with pytest.raises(SynapseCLRError, match="square"):
        Augmenter(AugmentationConfig.extract(fidelity="published"))(make_chunk(1, (24, 22, 8)))


def test_published_fidelity_refuses_operations_that_the_published_code_has_not():
    listed = ("rotation", "resampling", {"synapseclr.augmentation.operations.flips.Flips": None}, "z_score")
    config = AugmentationConfig(operations=listed, fidelity="published")
    with pytest.raises(ValueError, match=r"flips.Flips are not"):
        Augmenter(config)
