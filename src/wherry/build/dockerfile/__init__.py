"""The Dockerfile language: text in, instructions out, and back. Pure: nothing here does I/O.

`lexer` (lines, continuations, here-documents) > `parser` (flags, arguments, forms) > `syntax` (what
comes out); `words` expands variables, `render` writes a file again, `lint` has the checks of
`docker build --check`. Source: Dockerfile reference, and Docker Engine 28.5 asked.
"""
