"""Pictures of runs and of errors; matplotlib figures, never pyplot."""
