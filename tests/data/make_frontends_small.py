"""Writes frontends_small.h5: the part of the shared golden data of the frontends that travels with the repository.

Usage: /usr/bin/python3 tests/data/make_frontends_small.py [SHARED/golden/models/frontends.h5]
Copies the listed datasets unchanged. The source's README.md describes them (reference run in double, stored as float).
"""
import pathlib
import sys

import h5py

HERE = pathlib.Path(__file__).resolve().parent
WANTED = {
    "short": ["wave", "atst_mel", "crnn_mel", "crnn_log", "crnn_scaled", "fpasst_mel", "fpasst_mel_train_draws",
              "beats_fbank"],
    "synth": ["wave", "atst_mel", "crnn_mel", "crnn_log", "crnn_scaled", "fpasst_mel", "beats_fbank"],
}


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else HERE / "../../../shared/golden/models/frontends.h5"
    with h5py.File(source, "r") as src, h5py.File(HERE / "frontends_small.h5", "w", libver=("earliest", "v108")) as dst:
        for group, names in WANTED.items():
            for name in names:
                dst.create_dataset(f"{group}/{name}", data=src[group][name][...], compression=9, shuffle=True,
                                   track_times=False)


if __name__ == "__main__":
    main()
