"""How many pairs of one neurite there are, as it is logged and stored with the weights."""

from __future__ import annotations

from dataclasses import dataclass


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
        """What the weights say of their pairs: text values, as their file's header takes them."""
        return {
            "positives_n_neurites_paired": str(self.n_paired),
            "positives_n_neurites_barred": str(self.n_barred),
            "positives_n_pairs": str(self.n_pairs),
            "positives_n_synapses_with_partner": str(self.n_with_partner),
            "positives_n_synapses_without_partner": str(self.n_synapses - self.n_with_partner),
        }
