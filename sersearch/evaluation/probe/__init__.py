"""Probing the winners: what each module of a network represents (Section 7.5)."""
