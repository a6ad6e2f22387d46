"""Relaxation of atoms and cells, of many structures side by side."""
