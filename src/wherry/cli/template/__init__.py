"""Go's template language, the part that `--format` needs, over JSON values and listing rows.

Refuses: calling anything but the functions listed in `functions`; changing what it is given.
Read first: `syntax` (text to tree), then `evaluate` (tree and value to text).
Source: Go's text/template documentation, and what Docker's client prints.
"""
