"""What a person reads: leaderboards as Markdown, CSV and JSON."""

from sersearch.report.leaderboard import leaderboard_facts, markdown, write_report

__all__ = ["leaderboard_facts", "markdown", "write_report"]
