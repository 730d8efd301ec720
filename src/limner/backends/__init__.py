"""The places where pictures are made, found by name."""
