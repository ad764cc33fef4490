"""Build the documentation site: the pages of this repository as they lie, and the docstrings of each package.

    python docs/make_site.py

It needs the extra `docs`. Warnings, among them links that lead nowhere, are errors.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site-source"
PACKAGE = ROOT / "build" / "site-package"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "docs/*.md", "docs/*.png", "cluster/*.md")


def write_pages() -> None:
    """Copy the pages with their layout, so that their links hold; a README is the index of its folder."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for file in (file for pattern in PAGES for file in ROOT.glob(pattern)):
        copy = SOURCE / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".md":
            shutil.copy(file, copy)
            continue
        text = re.sub(r"README\.md(#[\w-]+)?\)", r"index.md\1)", file.read_text(encoding="utf-8"))
        copy.with_name(copy.name.replace("README.md", "index.md")).write_text(text, encoding="utf-8")


def copy_with_examples(file: Path) -> None:
    """Copy a module whose docstrings have `Example:`; the site shows code as such under `Examples:` alone."""
    copy = PACKAGE / file.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"^( +)Example:$", r"\1Examples:", text, flags=re.MULTILINE), encoding="utf-8")


def write_reference() -> list[str]:
    """Write one page per package, with the docstrings of its modules; return the pages."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    modules: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "sersearch").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        package = parts[1] if len(parts) > 2 else "sersearch"
        module = ".".join(part for part in parts if part != "__init__")
        if parts[-1] != "__main__":
            modules[package].append(module)
        copy_with_examples(file)
    folder = SOURCE / "reference"
    folder.mkdir()
    for package, names in modules.items():
        title = package if package == "sersearch" else f"sersearch.{package}"
        entries = [f"::: {name}" for name in names]
        (folder / f"{package}.md").write_text("\n\n".join([f"# {title}", *entries]) + "\n", encoding="utf-8")
    return sorted(f"reference/{package}.md" for package in modules)


def write_configuration(reference: list[str]) -> Path:
    """The site's configuration with the pages of the reference in its navigation."""
    entries = ", ".join(f'"{page}"' for page in reference)
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8").replace('"reference/"', f"[{entries}]")
    configuration = ROOT / "build" / "zensical.toml"
    for name in ("docs_dir", "site_dir"):
        text = text.replace(f'{name} = "build/', f'{name} = "')
    configuration.write_text(text.replace('paths = ["."]', f'paths = ["{PACKAGE}"]'), encoding="utf-8")
    return configuration


def main() -> None:
    """Write the pages, then build the site into build/site."""
    write_pages()
    configuration = write_configuration(write_reference())
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "-f", configuration], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
