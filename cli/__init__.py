"""Command-line code that training, export and serving share; it imports none of them."""
