"""The commands, one module for each noun they share; `wherry.cli.tree` says which holds which.

Each is a `flags.Command`: a function of (session, options, arguments) that returns an exit code.
"""
