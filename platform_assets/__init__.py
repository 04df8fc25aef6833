"""What exists: one folder a domain, one file a noun, in the order in which data flows.

How the outside is reached stands in `resources`, when things happen in `jobs`, how bytes look
in `formats`. `definitions.py` is the one place where they meet.
"""
