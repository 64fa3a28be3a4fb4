"""A contender with made-up answers, for the benchmarks' tests: `python -m tests.support.fake_contender NAME`."""

import os
import sys
import time

from axion.errors import AxionError
from benchmarks.workers import Done, serve


def prepare():
    name = sys.argv[1]
    print("what a library prints")
    if name == "missing":
        raise AxionError("there is no compiler")
    if name == "broken":
        raise ValueError("two\nlines")

    def work() -> Done:
        if name == "dying":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(3)
        if name == "silent":
            time.sleep(60)
        return Done(100, 1.0 if name == "fast" else 2.0)

    return {"step": work}, {"kinds": ["step"], "threads": os.environ["OMP_NUM_THREADS"]}


serve(prepare)
