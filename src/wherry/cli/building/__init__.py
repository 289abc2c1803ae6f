"""`wherry build`, apart from its flags: contexts on their way, what is shown, what the engine asks.

`request` makes the body, `contexts` sends files, `answers` gives secrets and takes outputs, `vertices`
keeps what is known of each step, `plain` and `board` show it.
"""
