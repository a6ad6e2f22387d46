"""Phonons of crystals, by finite displacements with phonopy."""
