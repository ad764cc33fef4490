"""Architecture search for speech emotion recognition."""
