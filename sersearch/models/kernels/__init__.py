"""The fast form of the networks: compiled loops, fast filters, cuDNN. `models.reference` gives the same numbers."""
