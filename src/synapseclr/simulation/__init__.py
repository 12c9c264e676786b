"""Simulated EM volumes with known truth: neurites, synapses, organelles, traits and defects."""

from synapseclr.simulation.config import ImagingStyle, SimulationConfig
from synapseclr.simulation.volume import SimulatedVolume, simulate

__all__ = ["ImagingStyle", "SimulatedVolume", "SimulationConfig", "simulate"]
