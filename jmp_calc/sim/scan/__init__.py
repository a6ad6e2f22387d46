"""Energies along a bond, an angle or a dihedral."""
