"""Equations of state: energies of a crystal at several volumes, and their curve."""
