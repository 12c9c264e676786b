"""Gaussian processes on features: what a trait probably is where it was not measured, and how sure that is."""
