"""``python -m pulsify``: the command line."""

from __future__ import annotations

from pulsify_cli.main import entry

if __name__ == "__main__":
    entry()
