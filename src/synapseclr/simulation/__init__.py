"""Simulated EM volumes with known truth: neurites, synapses, organelles, traits and defects."""

from synapseclr.simulation.config import SimulationConfig
from synapseclr.simulation.style import ImagingStyle
from synapseclr.simulation.volume import SimulatedVolume, simulate

__all__ = ["ImagingStyle", "SimulatedVolume", "SimulationConfig", "simulate"]
