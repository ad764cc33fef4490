"""What a study will train, how large it is and how long it takes."""
