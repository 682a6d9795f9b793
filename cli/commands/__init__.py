"""One command per file, discovered: ``command`` in ``run.py`` is ``pulsify run``."""
