"""Systems of several models that are asked as one. Found by entry point, as a backend from elsewhere is."""
