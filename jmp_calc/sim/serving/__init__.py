"""Energies and forces for other programs, over an i-PI socket."""
