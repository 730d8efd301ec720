"""Picture files: reading them safely, writing them whole, the recipe inside them."""
