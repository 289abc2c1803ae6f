"""What is measured, one class a case; `catalogue` lists them by the names the command line takes.

A case prepares each engine, is sampled on one engine and then the other in turn, and cleans up.
It refuses to know which engine it measures.
"""
