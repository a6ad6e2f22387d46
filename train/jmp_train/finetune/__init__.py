"""Fine-tuning: from trained weights and labelled systems to a run and its result."""
