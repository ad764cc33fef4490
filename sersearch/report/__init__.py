"""What a person reads of a run: tables, figures and a page, all made from the same facts.

`facts.gather` collects what a run shows; each of the other modules turns that into one kind of file, and `folder`
writes them all. Nothing is imported here, so that a command pays for what it uses alone.
"""
