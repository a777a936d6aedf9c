"""What is raised for a name that means nothing."""


class CatalogError(ValueError):
    """A name, a catalog file or a checkpoint that the user has to correct; the message says how."""
