"""What has been computed before, kept by everything that determines it. Pure: no torch, no pytest."""

from emt_plugin.store.code import code_hash, minor_versions
from emt_plugin.store.hashes import content_hash, file_hash
from emt_plugin.store.prune import ShelfInfo, prune, shelves
from emt_plugin.store.store import DEFAULT_FOLDER, MODES, Shelf, Store, Stored, StoreMode, key_hash

__all__ = [
    "DEFAULT_FOLDER",
    "MODES",
    "Shelf",
    "ShelfInfo",
    "Store",
    "StoreMode",
    "Stored",
    "code_hash",
    "content_hash",
    "file_hash",
    "key_hash",
    "minor_versions",
    "prune",
    "shelves",
]
