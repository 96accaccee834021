"""How long the two paths take that the program exists for, beside what the machine itself takes: `make bench`."""
