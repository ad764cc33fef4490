"""Training one trial, without Ray: data in, a result and weights out."""
