"""Begins to note requests to AWS in a process that asks AWS; takes no time of any other.

A run of tests links this file as `sitecustomize.py`, beside `sent_requests.py`, into a folder on
the PYTHONPATH of all that it starts: Python imports it at the start of each.
"""

import sys

HERE = __file__.rpartition("/")[0]


class _Waiting:
    """On `sys.meta_path`: finds nothing, and sees what is imported."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "botocore.session":
            sys.meta_path.remove(self)
            # The path may be another one by now, as pytest's workers have it.
            sys.path.insert(0, HERE)
            import sent_requests

            sys.path.remove(HERE)
            sent_requests.record(sent_requests.HERE)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Waiting())
