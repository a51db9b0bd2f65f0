"""What the last bit may depend on: processor, instructions, versions, variables that switch them."""

import json
import os
import platform
import re
from pathlib import Path

import numpy as np

from common.runs.folder import versions

FILE = "machine.json"
SWITCHES = (  # environment variables that choose among instructions or libraries
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "NPY_DISABLE_CPU_FEATURES",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
)


def write(folder: Path, package: str, device: str) -> None:
    """Leave ``describe`` beside the runs, with what the framework, loaded already, says of this machine."""
    about = describe() | {"device": device}
    if package == "pytorch_impl":
        import torch

        about["PyTorch's SIMD"] = torch.backends.cpu.get_cpu_capability()
        if device.startswith("cuda"):
            about["device"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    (folder / FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def describe() -> dict[str, str]:
    """Processor, SIMD level as NumPy finds it, system, versions, and the switches that are set."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    about = {"processor": f"{processor()}, {platform.machine()}", "SIMD": " ".join(found[-1:]) or "baseline"}
    about["system"] = f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}"
    about["versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    set_here = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    return about | ({"environment": " ".join(set_here)} if set_here else {})


def processor() -> str:
    """The processor's name, where the system tells it."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", about.read_text(), re.M) if about.exists() else None
    return named[1] if named else platform.processor() or "a processor without a name"
