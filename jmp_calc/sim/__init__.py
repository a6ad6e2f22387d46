"""Simulations on any ASE calculator; knows physics, never the model behind it."""
