"""What deploys it: files that are read by other programs, held against those programs' own schemas."""
