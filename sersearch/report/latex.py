"""The report as a LaTeX document; each table can be lifted out, with booktabs and graphicx and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sersearch.errors import printable
from sersearch.report.cells import NONE, Sheet, file_name
from sersearch.report.facts import Facts
from sersearch.report.modules import module_sheets
from sersearch.report.overview import entries, reading_order, several_spaces
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
    tables = "\n\n".join([*narrow_tables(facts), *(table(sheet, _marks(facts)) for sheet in sheets)])
    state = f"\\textbf{{{escape(facts.state)}}}" if facts.state else ""
    parts = {"TITLE": escape(facts.run.study.name), "STATE": state, "TABLES": tables or escape("No trial is done.")}
    # In one pass, because a name may be that of another part.
    return re.sub("|".join(parts), lambda found: parts[found[0]], _DOCUMENT)


def narrow_tables(facts: Facts) -> list[str]:
    """The table of a paper's column: one row per model, test UA per condition, the best in bold; none before the test.

    Figures are aligned at their decimal points by two columns each, which needs no further package.
    """
    if not facts.board.tested or not facts.rows:
        return []
    conditions = reading_order(facts)
    shown = entries(facts)
    with_space = several_spaces(shown)
    figures = {
        condition: [
            f"{row.test.overall.ua:.1f}" if (row := entry.rows.get(condition)) and row.test else NONE for entry in shown
        ]
        for condition in conditions
    }
    best = {
        condition: max((text for text in texts if text != NONE), key=float, default=NONE)
        for condition, texts in figures.items()
    }
    lines = []
    for number, entry in enumerate(shown):
        space = f", {entry.candidates.space}" if with_space else ""
        cells = [escape(entry.candidates.model + space), escape(entry.features)]
        for condition in conditions:
            cells.append(_aligned(figures[condition][number], bold=figures[condition][number] == best[condition]))
        lines.append(" & ".join(cells) + r" \\")
    heads = " & ".join(rf"\multicolumn{{2}}{{c}}{{{condition}}}" for condition in conditions)
    chance = 100 / len(facts.run.store.emotions)
    caption = f"Test UA (%) per model, clean and noisy condition; the best in bold. Guessing gives {chance:.1f} %."
    return [
        "\n".join(
            [
                r"\begin{table}[htbp]",
                r"\centering",
                f"\\caption{{{escape(caption + _marks(facts))}}}",
                r"\label{tab:test-ua}",
                f"\\begin{{tabular}}{{ll{'r@{.}l' * len(conditions)}}}",
                r"\toprule",
                rf"model & features & {heads} \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )
    ]


def _aligned(figure: str, bold: bool) -> str:
    """A figure as two cells, before and after its decimal point; a dash spans both."""
    if figure == NONE:
        return r"\multicolumn{2}{c}{--}"
    parts = figure.split(".")
    return " & ".join(rf"\textbf{{{part}}}" if bold else part for part in parts)


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
