"""Chunks cut out of layers, block by block, on one machine or several."""
