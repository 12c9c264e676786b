"""Positive pairs of one neurite: parameters, neurites, partners, and the guard of annotated neurites.

The provenance of weights says how their pretraining paired. Weights that are trained from others carry the others'
provenance with ``initial_`` before each key; an embedding carries that of its weights with ``weights_`` before it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from synapseclr.errors import ConfigurationError, TableError
from synapseclr.parameters import ParametersOfKind

logger = logging.getLogger(__name__)

_SIDES = {"pre": (0,), "post": (1,), "both": (0, 1)}
_BLOCK = 2**20
_PAIRED = "positives_pair_annotated_neurites"
_DIGEST = "positives_neurites_sha256"
_CHANGED = "annotations_changed_since_pretraining"


class PositivesConfig(ParametersOfKind):
    """The second view of a positive pair.

    ``augment``: another view of the same synapse, as published by SynapseCLR. ``same_neurite``: with a probability, a
    view of another synapse of the same neurite, after SegCLR (Dorkenwald et al. 2023, doi:10.1038/s41592-023-02059-8),
    which pairs places of one cell. Where no partner is allowed, the second view is the synapse's own.

    The kind alone may be given instead of the mapping: ``positives: same_neurite``.
    """

    kind_field = "kind"
    own_parameters: ClassVar = {
        "same_neurite": ("neurite", "probability", "max_distance_um", "pair_annotated_neurites")
    }

    kind: Literal["augment", "same_neurite"] = Field("augment", description="Where the second view comes from.")
    neurite: Literal["pre", "post", "both"] = Field(
        "both", description="Partners share the presynaptic root, the postsynaptic root, or either of them."
    )
    probability: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Of a partner in place of the own second view. At 1, what differs within a neurite is unlearned.",
    )
    max_distance_um: float | None = Field(
        None, gt=0, description="Partners' centres are at most this far apart, in a straight line; null: no limit."
    )
    pair_annotated_neurites: bool = Field(
        False,
        description="Pair synapses of neurites with annotations, too. Scores on these annotations then are no longer "
        "scores on unknown neurites.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


@dataclass(frozen=True)
class NeuriteTable:
    """The neurites of n stored synapses, in store order. Small, and picklable for other processes.

    Attributes:
        pre_root_id: Presynaptic root ids, uint64 (n,); 0 is no neurite.
        post_root_id: Postsynaptic root ids, uint64 (n,); 0 is no neurite.
        centre_nd_nm: Centres, float64 (n, 3), in nm.
        annotated_root_ids: Root ids of the neurites that count as annotated, uint64 (a,).
    """

    pre_root_id: NDArray[np.uint64]
    post_root_id: NDArray[np.uint64]
    centre_nd_nm: NDArray[np.float64]
    annotated_root_ids: NDArray[np.uint64]

    @classmethod
    def from_tables(cls, metadata: pd.DataFrame, annotations: pd.DataFrame) -> NeuriteTable:
        """Read the tables of the preprocessing.

        A neurite counts as annotated as soon as one of its synapses, on either side, has a value in any column of the
        annotations: whichever trait is evaluated, its neurites are among them.

        Args:
            metadata: One row a stored synapse: ``synapse_id, chunk_index, pre_root_id, post_root_id,
                centre_{x,y,z}_nm``.
            annotations: ``synapse_id`` and traits, NaN where not annotated.

        Raises:
            TableError: If the metadata are not one row for every chunk.
        """
        metadata = metadata.sort_values("chunk_index")
        if not np.array_equal(metadata["chunk_index"], np.arange(len(metadata))):
            raise TableError(
                f"synapse_metadata has {len(metadata)} rows whose chunk_index is not 0 to {len(metadata) - 1}. Run "
                "`kedro run --pipeline=preprocessing` again."
            )
        has_trait = annotations.drop(columns="synapse_id").notna().any(axis=1)
        is_annotated = metadata["synapse_id"].isin(annotations.loc[has_trait, "synapse_id"]).to_numpy()
        pre, post = (metadata[name].to_numpy().astype(np.uint64) for name in ("pre_root_id", "post_root_id"))
        return cls(
            pre_root_id=pre,
            post_root_id=post,
            centre_nd_nm=metadata[[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy(np.float64),
            annotated_root_ids=np.unique(np.concatenate([pre[is_annotated], post[is_annotated]])),
        )

    @property
    def sha256(self) -> str:
        """Digest over all columns: tells the pairs of one data set from those of another."""
        digest = hashlib.sha256()
        for column in (self.pre_root_id, self.post_root_id, self.centre_nd_nm, self.annotated_root_ids):
            digest.update(f"{column.shape}{column.dtype}".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class PairCounts:
    """Counts over the training synapses and the chosen sides.

    Attributes:
        n_neurites: Neurites, annotated or not.
        n_barred: Those of them that never form pairs, since they are annotated.
        n_shared: Neurites that are not barred and have two or more training synapses.
        n_paired: Those of them with at least one allowed pair.
        n_pairs: Allowed pairs, counted once for each neurite that the two synapses share.
        n_synapses: Training synapses.
        n_with_partner: Those of them with at least one partner; the others always keep their own second view.
    """

    n_neurites: int
    n_barred: int
    n_shared: int
    n_paired: int
    n_pairs: int
    n_synapses: int
    n_with_partner: int

    def negatives_of_own_neurite(self, batch_size: int) -> float:
        """Synapses of an anchor's paired neurites that a batch holds by chance, on average.

        The objectives that contrast push these apart as they do all others of a batch.
        """
        return 2 * self.n_pairs / self.n_synapses * (batch_size - 1) / max(self.n_synapses - 1, 1)

    def provenance(self) -> dict[str, str]:
        """Counts as text, as the header of the weights' file takes them."""
        return {
            "positives_n_neurites_paired": str(self.n_paired),
            "positives_n_neurites_barred": str(self.n_barred),
            "positives_n_pairs": str(self.n_pairs),
            "positives_n_synapses_with_partner": str(self.n_with_partner),
            "positives_n_synapses_without_partner": str(self.n_synapses - self.n_with_partner),
        }


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
        # Synapses of one neurite lie side by side in the order by code: those of code r on side s are
        # order_sn[s, start_sr[s, r] : start_sr[s, r + 1]].
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
        """Boolean (k, g): pairs that are allowed among k synapses and all g of a neurite that is not barred."""
        # A pair shares the neurite of this side. It must not share a barred one on the other side, too.
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
            # in blocks of rows, so that the (k, g) tables stay small on neurites with many synapses
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
        """Guard and counts, for the provenance of the weights."""
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


def guard_provenance(config: PositivesConfig, neurites: NeuriteTable) -> dict[str, str]:
    """Provenance of the guard: on or off, and a digest of the neurites that it knew."""
    return {
        "positives": config.kind,
        _PAIRED: str(config.pair_annotated_neurites).lower(),
        _DIGEST: neurites.sha256,
    }


def inherited_provenance(provenance: Mapping[str, str]) -> dict[str, str]:
    """Provenance of pairs that weights hand on to weights trained from them."""
    return {f"initial_{key}": value for key, value in provenance.items() if "positives" in key}


def annotation_provenance(
    weights: Mapping[str, str], metadata: pd.DataFrame, annotations: pd.DataFrame, chunks_sha256: str
) -> dict[str, str]:
    """Provenance of an embedding whose annotations came after the pretraining: its guard could not know them.

    Args:
        weights: Provenance of the weights.
        metadata: As :meth:`NeuriteTable.from_tables` takes them.
        annotations: Likewise.
        chunks_sha256: Digest of the chunks that are embedded; other ones than those of the pretraining are not checked.

    Returns:
        Empty, or ``annotations_changed_since_pretraining``.
    """
    digests = [value for key, value in weights.items() if key.endswith(_DIGEST)]
    if not digests or weights.get("chunks_sha256") != chunks_sha256:
        return {}
    now = NeuriteTable.from_tables(metadata, annotations).sha256
    return {} if all(digest == now for digest in digests) else {_CHANGED: "true"}


def leakage_warning(provenance: Mapping[str, str]) -> str | None:
    """Sentence beside scores of an encoder that may have been trained to tell annotated neurites apart.

    Args:
        provenance: Of weights or of an embedding.

    Returns:
        One sentence; None where no annotated neurite formed pairs.
    """
    true = [key for key, value in provenance.items() if str(value) == "true"]
    if any(key.endswith(_PAIRED) for key in true):
        reason = "with pairs of annotated neurites (pretraining.positives.pair_annotated_neurites)"
    elif any(key.endswith(_CHANGED) for key in true):
        reason = "with pairs of neurites, and the annotated ones among them are no longer those that it left out"
    else:
        return None
    return (
        f"The encoder was pretrained {reason}: scores on annotated synapses are not scores on unknown neurites, and "
        "must not be compared with those of encoders trained without such pairs."
    )
