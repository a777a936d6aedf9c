"""Names, paths and hub ids become specs. Imports nothing heavier than the standard library."""

from emt_plugin.catalog.catalog import Catalog, CatalogError, wordnet_words
from emt_plugin.catalog.specs import BUNDLED, ImageSetSpec, ModelSpec, Question, bundled_folder, display

__all__ = [
    "BUNDLED",
    "Catalog",
    "CatalogError",
    "ImageSetSpec",
    "ModelSpec",
    "Question",
    "bundled_folder",
    "display",
    "wordnet_words",
]
