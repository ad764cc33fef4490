"""A Ray cluster that somebody else has started: connecting to it, and running jobs there in place of processes here."""
