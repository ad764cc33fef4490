"""The fast form of the models: compiled loops, fast filters, cuDNN. `models.reference` is what they must equal."""
