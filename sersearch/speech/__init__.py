"""Sound in, matrices out: audio files, corpora, noisy copies and Kaldi features."""
