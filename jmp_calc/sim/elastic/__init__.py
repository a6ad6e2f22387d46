"""Elastic constants of crystals from stresses under small strains."""
