"""Barriers between two structures: nudged elastic bands."""
