"""Vibrations of molecules and adsorbates, and what they do to the free energy."""
