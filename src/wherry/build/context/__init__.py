"""Contexts: folders of files that a build takes from, received and kept where no other tree is touched.

Owns how they come in (`tarred`, `synced`, `fetched`, `git`), where they lie (`store`) and what stands
for their content (`listing`). Refuses to know of instructions. Read `store` first.
What comes in is hostile: no name leads outside, no link is followed while writing.
"""
