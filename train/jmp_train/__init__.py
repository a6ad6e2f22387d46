"""Training of JMP models: data sets, stores, mixtures, recipes, the trainer."""
