"""The parts of a grid of attacks by defences: its backdoors, and what each method makes of them."""
