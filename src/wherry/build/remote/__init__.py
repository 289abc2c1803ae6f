"""What a build takes from the network: files by HTTP, repositories by git. Refuses to know of instructions."""
