"""The worker process of `worker.Worker`: answers questions until its stdin is closed.

It is run as a script by any Python from 3.8 on, so it imports only the standard library.
"""

import os
import pickle
import runpy
import signal
import sys

PROTOCOL = 5  # of pickle: every Python from 3.8 on has it


def main(script: str, arguments: "list[str]") -> None:
    """Answer with what the script's function `answerer(*arguments)` returns."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles them, and closes our stdin
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that libraries print must not get between the answers
    answer = runpy.run_path(script)["answerer"](*arguments)
    while True:
        try:
            question = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        found = answer(question)
        try:
            pickle.dump(found, answers, PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # the parent has ended
            return


if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules could hide others of the same names
    main(sys.argv[1], sys.argv[2:])
