"""Pull and push against registries: Debian's, and one that lies."""
