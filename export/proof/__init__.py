"""TODO: export/proof."""
