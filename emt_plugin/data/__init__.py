"""An image set: images, labels, label names, content hashes, a fixed subset."""

from emt_plugin.data.image_set import ImageSet, Item
from emt_plugin.data.load import load_image_set, load_train

__all__ = ["ImageSet", "Item", "load_image_set", "load_train"]
