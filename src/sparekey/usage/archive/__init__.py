"""Read a CloudTrail archive: where its files are, how they are laid out, and which records name a key."""
