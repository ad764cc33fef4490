"""Looking into the winners: what each module of a network knows, and of what (Section 7.5)."""

from sersearch.evaluation.probe.findings import Findings, read_findings
from sersearch.evaluation.probe.inquiry import probe

__all__ = ["Findings", "probe", "read_findings"]
