#!/usr/bin/env python3
"""Makes testdata/magika: what magika reads of a file, as samples of `verify`. Needs numpy.

    python3 tools/magika-samples.py testdata/magika NAME=FILE …

magika reads 1024 bytes from a file's beginning and 1024 from its end, both stripped of white space outside, and takes
256 for what is not there.
"""

import sys

import numpy as np


def tokens(content):
    begin = content[:4096].lstrip()[:1024]
    end = content[-4096:].rstrip()[-1024:]
    sample = np.full((1, 2048), 256, np.int32)
    sample[0, : len(begin)] = list(begin)
    sample[0, 2048 - len(end) :] = list(end)
    return sample


folder, *files = sys.argv[1:]
for name, path in (file.split("=", 1) for file in files):
    with open(path, "rb") as content:
        np.savez_compressed(f"{folder}/{name}.npz", bytes=tokens(content.read()))
