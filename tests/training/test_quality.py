import numpy as np
import pytest
import torch

from synapseclr.augmentation import AugmentationConfig
from synapseclr.augmentation.preparation import Preparation
from synapseclr.training.quality import alignment, effective_rank, has_constant_intensity, knn_roc_auc, uniformity


def test_alignment_is_zero_for_equal_and_four_for_opposite_directions():
    z = torch.randn(5, 3)
    assert alignment(z, 2 * z).item() == pytest.approx(0, abs=1e-6)
    assert alignment(z, -z).item() == pytest.approx(4, rel=1e-6)


def test_uniformity_is_zero_when_collapsed_and_negative_when_spread():
    assert uniformity(torch.ones(6, 4)).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.eye(4)).item() == pytest.approx(-4, rel=1e-6)  # squared distance 2, times -2


def test_uniformity_of_many_is_taken_over_some(monkeypatch):
    """100,000 projections have 5e9 pairs, 20 GB; a sample says the same to a hundredth."""
    z = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    everything = uniformity(z).item()
    compared = []
    original = torch.pdist
    monkeypatch.setattr(torch, "pdist", lambda rows: compared.append(len(rows)) or original(rows))
    monkeypatch.setattr("synapseclr.training.quality._MOST_COMPARED", 300)
    assert uniformity(z).item() == pytest.approx(everything, abs=0.05)
    assert compared == [300]


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_singular_values_is_their_number(rank):
    q, _ = torch.linalg.qr(torch.randn(20, rank, generator=torch.Generator().manual_seed(0)))
    assert effective_rank(torch.nn.functional.pad(q, (0, 4))).item() == pytest.approx(rank, rel=1e-3)


def test_knn_separates_what_is_separable():
    labels = np.array([0.0, 1.0] * 10)
    features = torch.from_numpy(np.column_stack([labels, 1 - labels])) + 0.01
    assert knn_roc_auc(features, labels, np.arange(20), 3) == 1.0


def test_a_synapse_does_not_learn_its_class_from_its_own_neurite():
    """Features tell the neurite and nothing else: with its siblings shut out, a synapse finds other classes."""
    groups = np.repeat(np.arange(10), 4)
    labels = (groups % 2).astype(float)
    features = torch.eye(10)[torch.from_numpy(groups)]
    assert knn_roc_auc(features, labels, np.arange(40), 3) == 1.0
    assert knn_roc_auc(features, labels, groups, 3) < 0.7


def test_unannotated_synapses_are_left_out():
    labels = np.array([0.0, 1.0, 0.0, 1.0, np.nan])
    features = torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0], [1, 1]])
    assert knn_roc_auc(features, labels, np.arange(5), 1) == 1.0


def test_one_class_alone_has_no_score():
    assert np.isnan(knn_roc_auc(torch.randn(4, 2), np.zeros(4), np.arange(4), 1))


def images(*intensities):
    """A chunk for each: an array of intensities (x, y, z), with a mask that is the same everywhere."""
    return torch.stack([torch.stack([torch.as_tensor(i), torch.ones(8, 8, 8)]) for i in intensities]).byte()


def test_images_without_structure_are_told_from_others_raw_and_prepared():
    noise = np.random.default_rng(0).integers(60, 200, (8, 8, 8))
    grey, padded, dim = np.full((8, 8, 8), 130), np.full((8, 8, 8), 130), np.full((8, 8, 8), 130)
    padded[:, :3] = 0  # hangs over the border
    dim[4, 4, 4] = 90
    chunks = images(np.zeros((8, 8, 8)), grey, padded, noise, dim)
    expected = [True, True, True, False, False]
    assert has_constant_intensity(chunks).tolist() == expected
    config = AugmentationConfig(axial_to_sagittal_spacing=1.0).resized(8, 8, enable_random_periphery_cutout=False)
    assert has_constant_intensity(Preparation.of(config)(chunks)).tolist() == expected
