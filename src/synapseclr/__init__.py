"""SynapseCLR: representations of synapses in segmented 3D electron microscopy, learned without labels."""

from synapseclr.privacy import switch_off

__version__ = "0.1.0"

switch_off()
