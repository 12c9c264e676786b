"""Partners for the synapses of a batch: other synapses of the same neurite."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import ConfigurationError
from synapseclr.training.positives.config import PositivesConfig
from synapseclr.training.positives.counts import PairCounts
from synapseclr.training.positives.leakage import guard_provenance, leakage_warning
from synapseclr.training.positives.neurites import NeuriteTable

logger = logging.getLogger(__name__)

_SIDES = {"pre": (0,), "post": (1,), "both": (0, 1)}
_BLOCK = 2**20


class NeuritePartners:
    """Draws a partner for every synapse of a batch, from the training synapses and from nowhere else.

    Two synapses may be a pair if they share a neurite that is not barred, share none that is, and are close enough.
    Barred are the annotated neurites, unless ``pair_annotated_neurites``. Among the chosen sides on which a synapse
    has partners, one is drawn first, then a partner on it, so that a long neurite does not outweigh a short one.

    Other synapses of the same neurite that a batch holds by chance stay among the negatives. To mask them would take
    neurite ids into every objective and through the gather over processes (VICReg has no negatives at all), and would
    not reach the barred neurites. How many there are is logged; it falls as the data set grows.

    Args:
        neurites: Neurites of all stored synapses.
        indices: Store indices of the training synapses (n,); positions below are positions in this array.
        config: Of kind ``same_neurite``.

    Attributes:
        counts: How many neurites and pairs there are.

    Raises:
        ConfigurationError: If no pair is allowed; says why, and what to do.
    """

    def __init__(self, neurites: NeuriteTable, indices: NDArray[np.int64], config: PositivesConfig) -> None:
        self._config = config
        self._guard = guard_provenance(config, neurites)
        self._sides = _SIDES[config.neurite]
        root_sn = np.stack([neurites.pre_root_id[indices], neurites.post_root_id[indices]])
        root_id_r, code = np.unique(root_sn, return_inverse=True)
        self._code_sn: NDArray[np.int64] = code.reshape(root_sn.shape)
        self._is_neurite_r = root_id_r != 0
        annotated_r = np.isin(root_id_r, neurites.annotated_root_ids) & self._is_neurite_r
        self._barred_r = annotated_r & (not config.pair_annotated_neurites)
        self._centre_nd_nm = neurites.centre_nd_nm[indices]
        self._order_sn = np.argsort(self._code_sn, axis=1, kind="stable")
        self._start_sr = np.stack(
            [
                np.searchsorted(code_n[order_n], np.arange(len(root_id_r) + 1))
                for code_n, order_n in zip(self._code_sn, self._order_sn, strict=True)
            ]
        )
        self.counts = self._count()
        if self.counts.n_pairs == 0:
            raise ConfigurationError(_no_pairs(self.counts, config))

    def __call__(self, positions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Partners of the synapses at these positions (b,); a synapse's own position where it keeps both views.

        Every synapse takes three numbers from the generator, whatever comes of it.
        """
        partners = np.array(positions, dtype=np.int64)
        for row, (chance, side, member) in enumerate(rng.random((len(partners), 3))):
            if chance >= self._config.probability:
                continue
            choices = [found for s in self._sides if len(found := self.candidates(positions[row], s))]
            if choices:
                found = choices[int(side * len(choices))]
                partners[row] = found[int(member * len(found))]
        return partners

    def candidates(self, position: int, side: int) -> NDArray[np.int64]:
        """Positions that may be paired with this one for a neurite that both have on a side (0 pre, 1 post)."""
        code = int(self._code_sn[side, position])
        if self._barred_r[code] or not self._is_neurite_r[code]:
            return np.empty(0, dtype=np.int64)
        members_g = self._members(side, code)
        return members_g[self._may_pair(side, np.array([position]), members_g)[0]]

    def _members(self, side: int, code: int) -> NDArray[np.int64]:
        start_r = self._start_sr[side]
        return self._order_sn[side, start_r[code] : start_r[code + 1]]

    def _may_pair(self, side: int, rows_k: NDArray[np.int64], members_g: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of k synapses of a neurite that is not barred may be paired with which of its g, (k, g)."""
        other_n = self._code_sn[1 - side]
        other_k, other_g = other_n[rows_k, None], other_n[members_g]
        allowed_kg = (rows_k[:, None] != members_g) & ~((other_k == other_g) & self._barred_r[other_k])
        if self._config.max_distance_um is not None:
            apart_kgd = self._centre_nd_nm[rows_k, None] - self._centre_nd_nm[members_g]
            is_near_kg = np.linalg.norm(apart_kgd, axis=2) <= 1000 * self._config.max_distance_um
            allowed_kg = allowed_kg & is_near_kg
        return allowed_kg

    def _shared(self) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """Side, code and members of every neurite that is not barred and has at least two synapses."""
        for side in self._sides:
            sizes_r = np.diff(self._start_sr[side])
            for code in np.flatnonzero((sizes_r >= 2) & ~self._barred_r & self._is_neurite_r):
                yield side, int(code), self._members(side, int(code))

    def _count(self) -> PairCounts:
        n_partners = 0
        has_partner_n = np.full(self._code_sn.shape[1], False)
        shared: set[int] = set()
        paired: set[int] = set()
        for side, code, members_g in self._shared():
            shared.add(code)
            for rows_k in np.array_split(members_g, -(-(len(members_g) ** 2) // _BLOCK)):
                partners_k = self._may_pair(side, rows_k, members_g).sum(axis=1)
                has_partner_n[rows_k[partners_k > 0]] = True
                n_partners += int(partners_k.sum())
                if partners_k.any():
                    paired.add(code)
        present = np.unique(self._code_sn[list(self._sides)])
        return PairCounts(
            n_neurites=int(self._is_neurite_r[present].sum()),
            n_barred=int(self._barred_r[present].sum()),
            n_shared=len(shared),
            n_paired=len(paired),
            n_pairs=n_partners // 2,
            n_synapses=len(has_partner_n),
            n_with_partner=int(has_partner_n.sum()),
        )

    @property
    def provenance(self) -> dict[str, str]:
        """What the weights say of their pairs."""
        return {**self._guard, **self.counts.provenance()}

    def log(self, batch_size: int) -> None:
        """Say how many pairs there are, and how many synapses have none."""
        counts = self.counts
        logger.info(
            "Positives of the same neurite: %d pairs on %d of %d neurites (%d annotated ones form none). %d of %d "
            "training synapses have no partner and keep their own second view. A batch of %d holds on average %.2f "
            "other synapses of an anchor's paired neurites as negatives.",
            *(counts.n_pairs, counts.n_paired, counts.n_neurites, counts.n_barred),
            *(counts.n_synapses - counts.n_with_partner, counts.n_synapses),
            *(batch_size, counts.negatives_of_own_neurite(batch_size)),
        )
        warning = leakage_warning(self.provenance)
        if warning:
            logger.warning(warning)


def make_partners(
    config: PositivesConfig, neurites: NeuriteTable | None, indices: NDArray[np.int64], batch_size: int
) -> NeuritePartners | None:
    """The partners that a configuration asks for, after saying in the log how many there are.

    Args:
        config: Where second views come from.
        neurites: Neurites of all stored synapses; needed under ``same_neurite`` only.
        indices: Store indices of the training synapses (n,).
        batch_size: Synapses in a batch of all processes.

    Returns:
        None under ``augment``.

    Raises:
        ConfigurationError: If the neurites are needed but not given, or allow no pair.
    """
    if config.kind == "augment":
        return None
    if neurites is None:
        raise ConfigurationError(
            "pretraining.positives is same_neurite, but the training was not told the synapses' neurites. Pass fit() "
            "neurites=NeuriteTable.from_tables(synapse_metadata, annotations)."
        )
    partners = NeuritePartners(neurites, indices, config)
    partners.log(batch_size)
    return partners


def _no_pairs(counts: PairCounts, config: PositivesConfig) -> str:
    limit = "" if config.max_distance_um is None else f" at most {config.max_distance_um:g} um apart (max_distance_um)"
    options = ["set neurite: both"] if config.neurite != "both" else []
    options += ["make max_distance_um larger"] if config.max_distance_um is not None else []
    return (
        f"pretraining.positives is same_neurite (neurite: {config.neurite}), but no two training synapses may be "
        f"paired: of {counts.n_neurites} neurites, {counts.n_barred} are annotated and form no pairs; of the other "
        f"{counts.n_neurites - counts.n_barred}, {counts.n_shared} have two training synapses, and none has two"
        f"{limit} that share no annotated neurite. Set positives: augment; leave some neurites without annotations; "
        f"{''.join(f'{option}; ' for option in options)}or set pair_annotated_neurites: true, after which scores on "
        "these annotations are not scores on unknown neurites."
    )
