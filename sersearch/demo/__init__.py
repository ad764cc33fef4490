"""The whole way on generated speech: a corpus, noise, a store, a study. Its figures say nothing about real speech."""
