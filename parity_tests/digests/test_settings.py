"""The digests under everything that may change the last bit of a sum and can be switched on one machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity_tests.digests import machine, published
from parity_tests.digests.runs import runs_on
from parity_tests.support.scripts import PACKAGES, ROOT

SIMD = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
SETTINGS = {
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell",
    },
    "no AVX, no FMA": {
        "ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": SIMD, "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-AVX512F",
    },
    "AVX-512 in OpenBLAS": {"OPENBLAS_CORETYPE": "SkylakeX", "OPENBLAS_L2_SIZE": "1024"},
    "no oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0", "DNNL_MAX_CPU_ISA": "DEFAULT"},
    "many threads in NumPy and scikit-learn": {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
    "two threads in the framework": {},
    "subnormal numbers are zero": {},
}  # fmt: skip
CODE = "import sys; {flush}; from parity_tests.digests.runs import main; sys.exit(main(sys.argv[1:]))"
FLUSH = "import torch; assert torch.set_flush_denormal(True)"


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES.values())
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_changes_a_byte(setting: str, package: str, tmp_path: Path) -> None:
    code = CODE.format(flush=FLUSH if "subnormal" in setting else "pass")
    names = runs_on("cuda")  # those of one process
    more = ["--threads", "2"] if "threads in the framework" in setting else []
    environment = {k: v for k, v in os.environ.items() if k not in machine.SWITCHES} | SETTINGS[setting]
    command = [sys.executable, "-c", code, package, str(tmp_path), *more, "--only", *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / machine.FILE).read_text(encoding="utf-8"))
    if setting.startswith("no AVX"):
        assert about["SIMD"] == "baseline"
        assert about.get("PyTorch's SIMD", "DEFAULT") == "DEFAULT", "or the test switches nothing"
    expected = published.load()
    partings = {name: published.parting(published.read(tmp_path / name), expected[name]) for name in names}
    assert not {name: where for name, where in partings.items() if where}
