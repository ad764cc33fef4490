"""The models of the paper: the LDNN and the four CLDNNs, literal and fast, and support vector machines."""
