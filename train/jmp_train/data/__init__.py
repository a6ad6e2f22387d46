"""Labelled structures: reading, splitting, storing, mixing, batching."""
