"""Trajectories on disk: H5MD files, and frames of any file one after another."""
