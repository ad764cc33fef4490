"""Files that start a Ray cluster and a search on it, rendered from settings."""
