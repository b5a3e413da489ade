"""Rules for tables that training, scoring and HTTP share; needs NumPy at most."""
