"""The version, apart from the package root so that no module below has to import that."""

__version__ = "2.0.0"
