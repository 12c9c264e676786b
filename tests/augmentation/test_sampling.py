import multiprocessing

import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.operations.pose import draw_rotations
from synapseclr.augmentation.preparation import Preparation
from synapseclr.augmentation.sampling import Pose, place, sample, sample_by_grid

CONFIG = AugmentationConfig(axial_to_sagittal_spacing=2.5, global_max_relative_displacement=0.8).resized(22, 12)


@pytest.mark.parametrize("n_poses", [1, 3])
@pytest.mark.parametrize("shape", [(24, 28, 10), (25, 23, 13), (17, 17, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_sampler_agrees_with_grid_sample(make_chunk, n_poses, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    preparation = Preparation.of(CONFIG)
    prepared = preparation(make_chunk(3, shape, seed))
    displacement = torch.rand(n_poses, 3, generator=generator, dtype=torch.float64) - 0.5
    pose = Pose(draw_rotations(n_poses, generator), displacement)
    found = sample(prepared, preparation, pose, 12)
    step, origin = place(pose, preparation, 12, prepared.shape_xyz)
    expected = sample_by_grid(prepared.volume_bxyzc, step, origin, 12, shape[2], preparation.factors[2])
    # Positions on a border or between two codes may round to either side.
    inside = (found.weight_bxyz > 0) == (expected.weight_bxyz > 0)
    assert float(inside.float().mean()) > 0.999
    torch.testing.assert_close(found.weight_bxyz[inside], expected.weight_bxyz[inside], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.signal_bxyz[inside], expected.signal_bxyz[inside], atol=1e-4, rtol=0)
    apart = (found.distance_bcxyz.int() - expected.distance_bcxyz.int()).abs().movedim(1, -1)[inside]
    assert int(apart.max()) <= 1
    assert float((apart > 0).float().mean()) < 0.01
    assert float((found.section_bxyz != expected.section_bxyz).float().mean()) < 0.01


def test_sections_are_those_of_the_chunk(make_chunk):
    preparation = Preparation.of(CONFIG)
    prepared = preparation(make_chunk(1, (24, 24, 10)))
    section = sample(prepared, preparation, Pose.identity(), 12).section_bxyz[0, 6, 6]
    z = 4.5 + (torch.arange(12) - 5.5) * (22 / 12) / 2.5
    assert section.tolist() == (z + 0.5).floor().clamp(0, 9).int().tolist()


def _view_of(chunk, queue):
    torch.set_num_threads(1)  # as torch does in a data loader's worker
    queue.put(Augmenter(CONFIG)(chunk, torch.Generator().manual_seed(0)).intensity_bcxyz.numpy())


def test_threads_do_not_change_a_view_and_a_forked_process_can_make_it(make_chunk):
    """As a data loader's worker does, after views were made on several threads in its parent."""
    chunk, before = make_chunk(2), torch.get_num_threads()
    torch.set_num_threads(2)
    expected = Augmenter(CONFIG)(chunk, torch.Generator().manual_seed(0)).intensity_bcxyz
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_view_of, args=(chunk, queue))
    worker.start()
    found = queue.get(timeout=60)
    worker.join()
    assert torch.equal(torch.from_numpy(found), expected)
