"""The defences of others, each from its paper, on the clean images that ours has, too."""
