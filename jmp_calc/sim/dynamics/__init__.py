"""Molecular dynamics: settings, ensembles, what is measured, written and watched."""
