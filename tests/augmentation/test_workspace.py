import pickle

import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter, View

PLAIN = AugmentationConfig.extract(
    final_crop_size=24, final_img_size=24, axial_to_sagittal_spacing=1.0, enable_active_zone=False
)


def test_views_do_not_share_memory_with_later_ones(chunk):
    """Large tables are kept between calls; what was returned is not in them."""
    augmenter = Augmenter(PLAIN.replaced(enable_pixel_noise=True))
    generator = torch.Generator().manual_seed(0)
    first = augmenter(chunk, generator)
    held = View(first.intensity_bcxyz.clone(), first.mask_bcxyz.clone())
    augmenter(chunk.flip(0), generator)
    assert torch.equal(first.intensity_bcxyz, held.intensity_bcxyz)
    assert torch.equal(first.mask_bcxyz, held.mask_bcxyz)


def test_an_augmenter_serves_batches_of_any_size_and_goes_to_other_processes(chunk):
    augmenter = Augmenter(PLAIN)
    whole, part = augmenter(chunk), augmenter(chunk[:1])
    torch.testing.assert_close(part.intensity_bcxyz, whole.intensity_bcxyz[:1])
    torch.testing.assert_close(pickle.loads(pickle.dumps(augmenter))(chunk).intensity_bcxyz, whole.intensity_bcxyz)
