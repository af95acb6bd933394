"""The page in a real browser, over a running stack; `make browser`."""
