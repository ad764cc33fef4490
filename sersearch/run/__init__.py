"""What is in RUN/: the study as it was launched, the ledger of its trials, and what samplers have drawn."""
