"""The page: what the facts in ClickHouse say, seen in a browser. It reads, as a user who can do nothing
else."""
