"""The `wherry` command line, over the Engine API alone.

One table of flags per command (`verbs/*`, each a `flags.Command`) drives parsing, help and shell
completion; `tree` says which module holds which verb, so that a command loads only its own.
Refuses: doing anything that the API cannot do; importing above `wherry.client`.
Read first: `start.main`, then `flags`, then any module of `verbs`.

Cold start is a feature (a Go client takes 14 ms on the machine where `python -c pass` takes 8), so
the hot path uses plain classes with slots, and neither `re`, `typing`, `dataclasses`, `json`,
`argparse` nor `subprocess`; each of those costs 3 to 12 ms.
"""
