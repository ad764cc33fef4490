"""Ray clusters: files that start one, connecting to one, and running jobs there in place of processes here."""
