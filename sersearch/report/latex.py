"""The report as a LaTeX document; each table can be lifted out, with booktabs and graphicx and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from sersearch.report.facts import Facts
from sersearch.report.modules import module_sheets
from sersearch.report.sheets import Sheet, evidence, leaderboards

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "ρ": r"$\rho$",
}

_DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=15mm,headheight=14pt]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{fancyhdr}
\pagestyle{fancy}
\fancyhead[L]{TITLE}
\fancyhead[R]{STATE}
\begin{document}
TABLES
\end{document}
"""

# Wider tables are scaled down to the line.
_FITS = 6


def document(facts: Facts) -> str:
    """All tables; an unfinished or exploratory run says so at the head of every page and in each caption."""
    sheets = [*leaderboards(facts), *evidence(facts), *module_sheets(facts)]
    tables = "\n\n".join(table(sheet, _marks(facts)) for sheet in sheets)
    state = f"\\textbf{{{escape(facts.state)}}}" if facts.state else ""
    text = _DOCUMENT.replace("TITLE", escape(facts.run.study.name)).replace("STATE", state)
    return text.replace("TABLES", tables or escape("No trial is done."))


def _marks(facts: Facts) -> str:
    """What each caption says, because a table may be lifted out."""
    unfinished = "" if facts.board.complete else " (unfinished)"
    return unfinished + (" (exploratory)" if facts.exposure.exploratory else "")


def table(sheet: Sheet, marks: str = "") -> str:
    """One table, its notes below it; `marks` follow its title."""
    lines = [
        f"\\begin{{tabular}}{{{'l' * len(sheet.columns)}}}",
        r"\toprule",
        _line(sheet.columns),
        r"\midrule",
        *(_line(row) for row in sheet.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if len(sheet.columns) > _FITS:
        lines = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *lines[:-1], lines[-1] + "}"]
    notes = [f"\n\\smallskip\n\\parbox{{\\linewidth}}{{\\footnotesize {escape(note)}}}" for note in sheet.notes]
    head = [
        r"\begin{table}[htbp]",
        r"\centering",
        f"\\caption{{{escape(sheet.title + marks)}}}",
        f"\\label{{tab:{sheet.name}}}",
    ]
    return "\n".join([*head, *lines, *notes, r"\end{table}"])


def escape(text: str) -> str:
    """Text as LaTeX sets it."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def _line(cells: Iterable[str]) -> str:
    # A cell that begins with a bracket would be taken for an option of the line break before it.
    return " & ".join("{}" + cell if cell.startswith("[") else cell for cell in map(escape, cells)) + r" \\"
