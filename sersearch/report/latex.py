"""The report as a LaTeX document; each table can be lifted out, with booktabs and graphicx and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sersearch.errors import printable
from sersearch.report.cells import Sheet, file_name
from sersearch.report.facts import Facts
from sersearch.report.modules import module_sheets
from sersearch.report.sheets import evidence, leaderboards

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "`": r"\textasciigrave{}",
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

# Pairs that LaTeX would set as one character.
_LIGATURES = ("--", "''", ",,")

# Beyond those of Western Europe, which have numbers below 256, LaTeX's usual fonts have these.
_FURTHER_LETTERS = "ĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŊŋŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž‘’“”…—€"

_DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
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
    parts = {"TITLE": escape(facts.run.study.name), "STATE": state, "TABLES": tables or escape("No trial is done.")}
    # In one pass, because a name may be that of another part.
    return re.sub("|".join(parts), lambda found: parts[found[0]], _DOCUMENT)


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
        f"\\label{{tab:{file_name(sheet.name)}}}",
    ]
    return "\n".join([*head, *lines, *notes, r"\end{table}"])


def escape(text: str) -> str:
    r"""Escape a text so that LaTeX sets it as it stands, on one line; letters that its fonts lack become numbers.

    Example:
        >>> print(escape("TABLES_50% -- 怒"))
        TABLES\_50\% -{}- [U+6012]
    """
    shown = []
    before = ""
    for character in printable(text):
        if before + character in _LIGATURES:
            shown.append("{}")
        shown.append(_ESCAPES.get(character) or _in_fonts(character))
        before = character
    return "".join(shown)


def _in_fonts(character: str) -> str:
    if ord(character) < 0x100 or character in _FURTHER_LETTERS:
        return character
    return f"[U+{ord(character):04X}]"


def _line(cells: Iterable[str]) -> str:
    # A cell that begins with a bracket would be taken for an option of the line break before it.
    return " & ".join("{}" + cell if cell.startswith("[") else cell for cell in map(escape, cells)) + r" \\"
