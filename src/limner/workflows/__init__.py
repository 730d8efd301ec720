"""From a request to its plans: presets, seeds, sizes, adapters' files."""
