"""Storage: archives, blobs, snapshots."""
