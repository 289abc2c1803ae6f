"""What `wherry.kernel.durable` gives, where the store's own rooms look for it."""

from wherry.kernel.durable import commit_file, commit_tree, full, sync_directory, write_file

__all__ = ["commit_file", "commit_tree", "full", "sync_directory", "write_file"]
