"""The models of the paper: the LDNN and the CLDNNs, in the paper's form and in a fast one, and SVMs."""
