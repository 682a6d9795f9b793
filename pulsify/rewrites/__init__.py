"""Rewrites: one file each, ``apply(graph) -> int`` counts what it changed. Facts stay true throughout."""
