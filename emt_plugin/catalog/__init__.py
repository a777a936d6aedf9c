"""Names, paths and hub ids become specs. Imports nothing heavier than the standard library."""

from emt_plugin.catalog.catalog import Catalog, wordnet_words
from emt_plugin.catalog.errors import CatalogError
from emt_plugin.catalog.specs import BUNDLED, ImageSetSpec, ModelSpec, Question, bundled_folder, display
from emt_plugin.catalog.trajectories import StateSpec, TrajectorySpec, trajectories

__all__ = [
    "BUNDLED",
    "Catalog",
    "CatalogError",
    "ImageSetSpec",
    "ModelSpec",
    "Question",
    "StateSpec",
    "TrajectorySpec",
    "bundled_folder",
    "display",
    "trajectories",
    "wordnet_words",
]
