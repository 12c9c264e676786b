"""The cell type of a neurite from all of its synapses."""
