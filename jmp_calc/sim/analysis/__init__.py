"""What trajectories say: structure, diffusion, vibrations, drift and stability."""
