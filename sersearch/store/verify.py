"""The check of a whole store: its frames, its vector sets, and files that don't belong to it."""

from sersearch.store.reader import Store
from sersearch.store.vectors.reader import vector_faults


def verify_store(store: Store) -> list[str]:
    """Read every byte of a store.

    Returns:
        One line "FILE: FAULT" for each damaged, missing or foreign file, sorted; empty if the store is intact.
    """
    faults = store.faults() | vector_faults(store)
    present = {path.relative_to(store.path).as_posix() for path in store.path.rglob("*") if not path.is_dir()}
    for file in present - set(faults):
        faults[file] = "foreign (not written by this store; remove it)"
    return sorted(f"{file}: {fault}" for file, fault in faults.items() if fault)
