"""Begins to note requests to AWS in a process that asks AWS; takes no time of any other.

A run of tests links this file as `sitecustomize.py`, beside `request_recorder.py`, into a folder on
the PYTHONPATH of all that it starts: Python imports it at the start of each. Whatever fails here is
put down for the end of the run; the process goes on without.
"""

import sys

HERE = __file__.rpartition("/")[0]


class _Waiting:
    """On `sys.meta_path`: finds nothing, and sees what is imported."""

    waits = True

    def find_spec(self, name: str, *_: object) -> None:
        if name == "botocore.session" and self.waits:
            # It stays on the path, which is just being gone through.
            self.waits = False
            try:
                _begin()
            except Exception as error:
                _put_down(f"{sys.argv[:1]} notes nothing: {error!r}")


def _begin() -> None:
    # The path may be another one by now, as pytest's workers have it.
    sys.path.insert(0, HERE)
    try:
        import request_recorder
    finally:
        sys.path.remove(HERE)
    request_recorder.record(request_recorder.HERE)


def _put_down(text: str) -> None:
    try:
        with open(f"{HERE}/errors", "a") as file:  # noqa: PTH123 - pathlib would take time of all
            file.write(f"{text}\n")
    except OSError:  # of another user, or the run is over
        pass


def _run_shadowed_sitecustomize() -> None:
    """Execute the `sitecustomize.py` that Python would have found without this one."""
    from importlib.machinery import PathFinder, SourceFileLoader

    spec = PathFinder.find_spec("sitecustomize", [one for one in sys.path if one != HERE])
    loader = spec and spec.loader
    code = isinstance(loader, SourceFileLoader) and loader.get_code("sitecustomize")
    if spec and code:
        exec(code, {"__name__": "sitecustomize", "__file__": spec.origin})


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Waiting())
    _run_shadowed_sitecustomize()
