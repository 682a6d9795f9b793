"""Builders of example models with deterministic weights."""
