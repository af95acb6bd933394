"""The page: without a browser here, in one in tests/browser."""
