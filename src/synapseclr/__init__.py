"""SynapseCLR: representations of synapses in segmented 3D electron microscopy, learned without labels."""

__version__ = "0.1.0"
