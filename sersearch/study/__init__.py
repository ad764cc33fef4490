"""What is to be trained: configurations, spaces, studies, trials, the agenda. No torch, no Ray."""
