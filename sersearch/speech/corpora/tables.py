"""Reading tables that people write: CSV files with a header, separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.corpora.corpus import Gender
from sersearch.speech.corpora.labels import tidy

_SEPARATORS = (",", ";", "\t")
_GENDERS: dict[str, Gender | None] = {
    "female": "female",
    "woman": "female",
    "f": "female",
    "w": "female",
    "male": "male",
    "man": "male",
    "m": "male",
    "other": "other",
    "o": "other",
    "unknown": None,
    "u": None,
    "": None,
}


@dataclass(frozen=True)
class Table:
    """The text of a table, taken apart.

    Attributes:
        file: the file.
        columns: names of the columns, normalised; "" for a column without a name.
        rows: (number of the line, fields); lines without any text are left out.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def records(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield for each line where it is, for errors, and its values by column.

        Raises:
            InputError: a line has more fields than there are columns, or a value in a column without a name.
        """
        for line, fields in self.rows:
            where = f"{self.file}, line {line}"
            yield where, _by_column(self.columns, fields, where)


def read_table(file: Path, expected: Collection[str]) -> Table:
    """Read a table and find its separator.

    Args:
        file: CSV file in UTF-8, with or without a byte-order mark.
        expected: names of columns, in lower case; the separator is the one by which most of them are found.

    Raises:
        InputError: the file is no CSV file in UTF-8.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: is not a CSV file in UTF-8 ({error}); save it again with the encoding UTF-8"
        ) from None
    candidates = [_split(file, text, separator) for separator in _SEPARATORS]
    # The comma if no separator gives an expected column.
    table, failure = max(candidates, key=lambda candidate: len({*expected} & {*candidate[0].columns}))
    if failure is not None:
        raise InputError(f"{file}: is not a CSV file in UTF-8 ({failure}); export it again")
    return table


def gender_of(given: str, where: str) -> Gender | None:
    """Return the gender that a field names; None for an empty field and an unknown gender.

    Raises:
        InputError: the field names no gender; `where` begins the message.
    """
    if given.casefold() not in _GENDERS:
        raise InputError(
            f"{where}: gender {given!r} is not one of female, male, other, unknown, f, m, w, o, u; use one of them, "
            "or leave the field empty"
        )
    return _GENDERS[given.casefold()]


def _split(file: Path, text: str, separator: str) -> tuple[Table, csv.Error | None]:
    """Take a table apart at a separator; return what was read before the error, if there is one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[int, tuple[str, ...]]] = []
    failure: csv.Error | None = None
    try:
        columns = tuple(tidy(column).casefold() for column in next(reader, ()))
        for fields in reader:
            stripped = tuple(field.strip() for field in fields)
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        failure = error
    return Table(file, columns, tuple(rows)), failure


def _by_column(columns: tuple[str, ...], fields: tuple[str, ...], where: str) -> dict[str, str]:
    """Return the values of a line by column; fields that are missing at the end of a line are empty."""
    if any(fields[len(columns) :]):
        raise InputError(f"{where}: has more fields than columns; put values that hold separators in quotation marks")
    row = dict.fromkeys(columns, "")
    for column, value in zip(columns, fields, strict=False):
        if value and not column:
            raise InputError(f"{where}: {value!r} is in a column without a name; name the column in the first line")
        row[column] = value
    return row
