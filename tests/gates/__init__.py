"""The rules of the house as tests: tiers, docstrings, sizes, words, installation, systemd units.

They read source and start no engine. `sources` finds the files; each other module holds one rule.
"""
