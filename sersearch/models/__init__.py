"""The paper's models: the LDNN and the four CLDNNs."""

from sersearch.models.cldnn import CLDNN

__all__ = ["CLDNN"]
