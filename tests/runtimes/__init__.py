"""Emitted models in other runtimes. A tier of its own (`make test-runtimes`): it installs what it needs into the cache."""
