"""What the second view is a view of: the same synapse, or another synapse of the same neurite."""

from synapseclr.training.positives.config import PositivesConfig
from synapseclr.training.positives.counts import PairCounts
from synapseclr.training.positives.leakage import annotation_provenance, inherited_provenance, leakage_warning
from synapseclr.training.positives.neurites import NeuriteTable
from synapseclr.training.positives.partners import NeuritePartners, make_partners

__all__ = [
    "NeuritePartners",
    "NeuriteTable",
    "PairCounts",
    "PositivesConfig",
    "annotation_provenance",
    "inherited_provenance",
    "leakage_warning",
    "make_partners",
]
