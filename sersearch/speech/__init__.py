"""From sound to matrices: audio files, corpora, noisy copies and Kaldi features."""
