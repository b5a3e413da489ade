"""Parts of a command line that training, export and serving share; imports none of them."""
