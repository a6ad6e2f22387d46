"""Errors of weights in full: by set, element and size, as tables and pictures."""
