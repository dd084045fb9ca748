"""The tool's side of `session.py`: `utils/serve.py` runs this file in the Python that has the tool.

It imports only the standard library; the script that it is given imports what that environment has, and nothing of
picoquant. The script's `questions()` returns its functions by name; one that fails raises an exception, without a text
where what it printed says why.
"""

import os
import runpy
import sys
from contextlib import contextmanager

PRINTED = "printed.txt"


@contextmanager
def printed(into):
    """What this process prints in the block, its C++ too, goes to a list as one text.

    It is in a file meanwhile, which the other side reads when this process dies.
    """
    before = os.dup(1), os.dup(2)
    with open(PRINTED, "w+b") as stream:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, kept in zip((1, 2), before):
                os.dup2(kept, number)
                os.close(kept)
            stream.seek(0)
            into.append(stream.read().decode("utf-8", "replace"))


def answerer(script, scratch):
    """What answers with what the script's functions return; they run, and leave files, in `scratch`."""
    os.chdir(scratch)
    does = runpy.run_path(script)["questions"]()

    def answer(question):
        done, value, said = False, None, []
        with printed(said):
            try:
                value = does[question[0]](*question[1:])
                done = True
            except Exception as error:
                print(f"\n{type(error).__name__}: {error}" if str(error) else "")
        return done, value, "".join(said)

    return answer
