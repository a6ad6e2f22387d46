"""Atoms to graphs: neighbours, the four edge sets, and their index lists."""
