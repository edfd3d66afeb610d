"""Commands that repeat a measurement and print a table; none of them is a test."""
