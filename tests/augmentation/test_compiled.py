"""The compiled loops give what the torch operations give."""

import multiprocessing

import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter, ViewDraws, corrected, geometry, intensity
from synapseclr.augmentation.compiled import coupled
from synapseclr.augmentation.corrected import finish, resample_corrected
from synapseclr.augmentation.pooling import Chunks
from synapseclr.augmentation.published import decode_and_resample

SO3 = AugmentationConfig.so3(
    section_cutout_prob=1.0, cutout_poisson_rate=3.0, global_max_relative_displacement=0.8, enable_pixel_noise=False
).resized(24, 12)
NOISY = SO3.replaced(enable_pixel_noise=True)


def textured(make_chunk, batch, shape):
    """Chunks with missing voxels and a speckle of every code."""
    chunk = make_chunk(batch, shape)
    generator = torch.Generator().manual_seed(1)
    chunk[:, 0][torch.rand(chunk[:, 0].shape, generator=generator) < 0.1] = 0
    speckle = torch.randint(0, 4, chunk[:, 1].shape, generator=generator, dtype=torch.uint8)
    return torch.stack([chunk[:, 0], torch.where(speckle == 0, speckle.flip(0), chunk[:, 1])], dim=1)


def both_ways(chunk, config, seed):
    chunks = Chunks(chunk, config)
    draws = Augmenter(config).draw(chunk, torch.Generator().manual_seed(seed))
    ways = [resample_corrected(chunks, config, draws, compiled) for compiled in (True, False)]
    assert "prepared" in vars(chunks)  # the second way was torch's
    return ways


@pytest.mark.parametrize(
    ("batch", "shape", "spacing"),
    [(8, (24, 28, 10), 5.0), (9, (25, 23, 13), 2.0), (1, (17, 17, 17), 1.0), (3, (24, 24, 1), 2.5)],
)
@pytest.mark.parametrize("seed", range(3))
def test_compiled_loops_agree_with_torch(make_chunk, batch, shape, spacing, seed):
    config = SO3.replaced(axial_to_sagittal_spacing=spacing)
    (found, found_mask), (expected, expected_mask) = both_ways(textured(make_chunk, batch, shape), config, seed)
    assert torch.equal(found_mask, expected_mask)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_compiled_noise_agrees_with_torch(make_chunk, monkeypatch):
    def constant(length, seed, device=None):
        return torch.full((length,), 0.7), torch.full((length,), -1.3)

    for module in (intensity, coupled):
        monkeypatch.setattr(module, "normal_fields", constant)
    config = SO3.replaced(enable_pixel_noise=True, global_additive_gaussian_noise_scale_min=0.05)
    (found, _), (expected, _) = both_ways(textured(make_chunk, 3, (24, 24, 10)), config, 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [3, 9])
@pytest.mark.parametrize("config", [NOISY, SO3.for_extraction()])
def test_compiled_published_views_agree_with_torch(make_chunk, batch, config):
    chunk, config = textured(make_chunk, batch, (24, 24, 10)), config.replaced(fidelity="published")
    draws = Augmenter(config).draw(chunk, torch.Generator().manual_seed(0))
    theta = geometry.published_theta(draws.rotation_bij, draws.displacement_bi, (1.1, 1.1, 1.2))
    ways = [decode_and_resample(chunk, theta, config, draws, compiled) for compiled in (True, False)]
    torch.testing.assert_close(ways[0][0], ways[1][0], atol=1e-6, rtol=0)
    assert torch.equal(ways[0][1], ways[1][1])


def test_every_voxel_and_sample_has_its_own_noise(make_chunk):
    chunk = make_chunk(1, (24, 24, 24)).expand(9, -1, -1, -1, -1).clone()
    chunk[:, 0] = 128
    config = AugmentationConfig.extract(enable_pixel_noise=True, axial_to_sagittal_spacing=1.0)
    config = config.resized(24, 24, global_additive_gaussian_noise_scale_min=0.05)
    draws = Augmenter(config).draw(chunk, torch.Generator().manual_seed(0))
    carried, _ = coupled.resample_chunk(
        chunk, corrected.corrected_grid(None, None, (24, 24, 24), 24, 24, 1.0), (1, 1, 1), 255.0, draws
    )
    assert len(carried[:, 0].unique()) > 0.95 * carried[:, 0].numel()  # float32 repeats a percent
    correlation = torch.corrcoef(carried[:, 0].flatten(1)) - torch.eye(9)
    assert float(correlation.abs().max()) < 5 / 24**1.5


@pytest.mark.parametrize("sigmas", [None, (0.75,), (0.5, 0.0, 0.25)])
@pytest.mark.parametrize("n_channels", [0, 1, 2])
def test_compiled_end_of_a_view_agrees_with_torch(sigmas, n_channels):
    source = torch.Generator().manual_seed(0)
    weight = torch.rand(3, 1, 10, 10, 10, generator=source) * torch.randint(0, 2, (3, 1, 10, 10, 10), generator=source)
    carried = torch.cat([torch.rand(3, 1, 10, 10, 10, generator=source) * weight, weight], dim=1)
    shown = [torch.rand(n, n_channels, 10, 10, 10, generator=source) > 0.3 for n in (1, 3) if n_channels]
    draws = ViewDraws(blur_sigma_b=None if sigmas is None else torch.tensor(sigmas))
    found, expected = (finish(carried, shown, SO3, draws, compiled) for compiled in (True, False))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_threads_do_not_change_a_view(make_chunk):
    chunk, before, views = make_chunk(9, (24, 24, 10)), torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        views.append(Augmenter(NOISY)(chunk, torch.Generator().manual_seed(0)))
    torch.set_num_threads(before)
    assert torch.equal(views[0].intensity_bcxyz, views[1].intensity_bcxyz)
    assert torch.equal(views[0].mask_bcxyz, views[1].mask_bcxyz)


def test_large_boxes_and_draws_of_each_sample_are_left_to_torch(make_chunk):
    chunk = make_chunk(2, (24, 24, 24))
    for config in (
        AugmentationConfig.extract(axial_to_sagittal_spacing=1.0).resized(24, 8),
        SO3.replaced(batch_mode="decoupled"),
    ):
        ways = both_ways(chunk, config, 0)
        assert torch.equal(ways[0][0], ways[1][0])


def _view_of(chunk, queue):
    torch.set_num_threads(1)  # as torch does in a data loader's worker
    queue.put(Augmenter(NOISY)(chunk, torch.Generator().manual_seed(0)).intensity_bcxyz.numpy())


def test_a_forked_process_can_make_views(make_chunk):
    """As a data loader's worker does, after views were made on several threads in its parent."""
    chunk, before = make_chunk(2), torch.get_num_threads()
    torch.set_num_threads(2)
    expected = Augmenter(NOISY)(chunk, torch.Generator().manual_seed(0)).intensity_bcxyz
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_view_of, args=(chunk, queue))
    worker.start()
    found = queue.get(timeout=60)
    worker.join()
    assert torch.equal(torch.from_numpy(found), expected)
