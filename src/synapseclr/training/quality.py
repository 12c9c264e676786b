"""Quality of a representation, without labels (alignment, uniformity, effective rank) and with few (k-NN probe)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from synapseclr.augmentation import PreparedChunks
from synapseclr.augmentation.preparation import LEVELS, SIGNAL, WEIGHT

_MOST_COMPARED = 4096


def has_constant_intensity(chunks: Tensor | PreparedChunks) -> Tensor:
    """Tell the synapses whose image shows nothing: black, or of one intensity beside black.

    Args:
        chunks: uint8 (b, 2, x, y, z), or prepared.

    Returns:
        Boolean (b,), on the device of the chunks.
    """
    if isinstance(chunks, PreparedChunks):
        signal_bv, weight_bv = (chunks.volume_bxyzc[..., channel].flatten(1) for channel in (SIGNAL, WEIGHT))
        is_tissue_bv, tolerance = weight_bv == LEVELS, 1  # codes are rounded
    else:
        signal_bv = chunks[:, 0].flatten(1)
        is_tissue_bv, tolerance = signal_bv > 0, 0
    lowest_b = torch.where(is_tissue_bv, signal_bv, LEVELS).amin(dim=1).int()
    highest_b = torch.where(is_tissue_bv, signal_bv, 0).amax(dim=1).int()
    return highest_b - lowest_b <= tolerance


def alignment(z_i: Tensor, z_j: Tensor) -> Tensor:
    """Mean squared distance of the normalised projections (b, d) of two views; 0 is perfect.

    Source: Wang & Isola 2020, arXiv:2005.10242, with alpha = 2.
    """
    return (functional.normalize(z_i, dim=1) - functional.normalize(z_j, dim=1)).pow(2).sum(dim=1).mean()


def uniformity(z: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of normalised projections (b, d); lower is more uniform, 0 is collapse.

    Beyond 4,096 projections it is taken over 4,096 of them, evenly spaced: 8.4 million pairs, 34 MB.

    Source: Wang & Isola 2020, arXiv:2005.10242, with t = 2.
    """
    if len(z) > _MOST_COMPARED:
        z = z[torch.linspace(0, len(z) - 1, _MOST_COMPARED, device=z.device, dtype=torch.float64).long()]
    return torch.pdist(functional.normalize(z, dim=1)).pow(2).mul(-2).exp().mean().log()


def effective_rank(features_nf: Tensor) -> Tensor:
    """RankMe: the exponential of the entropy of the normalised singular values; 1 is collapse, min(n, f) the most.

    Source: Garrido et al. 2023, arXiv:2210.02885, equation 1 (its epsilon of 1e-7 included).
    """
    singular_values = torch.linalg.svdvals(features_nf.float())
    p = singular_values / singular_values.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(p * p.log()).sum())


def knn_roc_auc(
    features_nf: Tensor, labels_n: NDArray[np.float64], groups_n: NDArray[np.int64], neighbours: int
) -> float:
    """ROC AUC of a leave-one-neurite-out k-NN vote in cosine similarity.

    Args:
        features_nf: Features (n, f).
        labels_n: 0, 1 or NaN (not annotated; left out).
        groups_n: Neurite of each synapse; a synapse's own neurite never votes.
        neighbours: k, capped to what is there.

    Returns:
        The area under the curve; NaN when only one class is annotated.
    """
    from sklearn.metrics import roc_auc_score

    known = np.flatnonzero(np.isfinite(labels_n))
    if len(np.unique(labels_n[known])) != 2:
        return float("nan")
    features = functional.normalize(features_nf[torch.from_numpy(known)].float(), dim=1)
    groups = torch.from_numpy(np.unique(groups_n[known], return_inverse=True)[1])
    # synapses of the own neurite, among them the synapse itself, are infinitely far: they get no vote
    similarity = (features @ features.T).masked_fill(groups[:, None] == groups[None, :], float("-inf"))
    top = similarity.topk(min(neighbours, len(known) - 1), dim=1)
    weight = top.values.isfinite().float()
    votes = torch.from_numpy(labels_n[known]).float()[top.indices]
    score = (votes * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)
    return float(roc_auc_score(labels_n[known], score.numpy()))
