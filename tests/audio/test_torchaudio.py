"""The door to torchaudio opens in a fresh process, whatever build of torch stands beside it."""

import subprocess
import sys

from xlst_ray.audio import _torchaudio


def test_opens_in_a_fresh_process() -> None:
    code = "from xlst_ray.audio._torchaudio import functional, kaldi; print(functional.resample, kaldi.fbank)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "function resample" in done.stdout
    assert "function fbank" in done.stdout


def test_modules_are_torchaudios_own() -> None:
    assert _torchaudio.functional.__name__ == "torchaudio.functional"
    assert _torchaudio.kaldi.__name__ == "torchaudio.compliance.kaldi"
