"""A trained model outside of its run: a folder with weights, configuration and card, which predicts sound."""
