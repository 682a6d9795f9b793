"""Models downloaded from a package index."""
