"""Make the vLLM test environment import without a GPU: run by its own Python after pip, any number of times.

The registries' torchaudio, torchvision, torchcodec and triton are CUDA builds; beside the CPU build of torch their
compiled parts fail to load and take `import vllm` down with them. Their Python parts are all that vLLM needs here.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

COMPILED = ("torchaudio/lib/*.so", "torchvision/*.so")
NOT_NEEDED = ("torchcodec", "triton")
OPERATORS = """
if not torchvision.extension._has_ops():  # CPU: the names exist, nobody calls them
    _names = torch.library.Library("torchvision", "DEF")
    _names.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _names.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def repair(packages: Path) -> list[str]:
    """Take out what cannot load and declare the operators torchvision registers shapes for; says what it did."""
    done = []
    for pattern in COMPILED:
        for compiled in packages.glob(pattern):
            compiled.unlink()
            done.append(f"removed {compiled.relative_to(packages)}")
    for name in NOT_NEEDED:
        for folder in (packages / name, *packages.glob(f"{name}-*.dist-info")):
            if folder.is_dir():
                shutil.rmtree(folder)
                done.append(f"removed {folder.relative_to(packages)}")
    shapes = packages / "torchvision" / "_meta_registrations.py"
    if shapes.exists() and "_names.define" not in (text := shapes.read_text()):
        line = next((line for line in text.splitlines() if line.startswith("import torchvision.extension")), None)
        if line is None:
            raise SystemExit(f"{shapes}: not the torchvision this repair was written for (it imports no extension).")
        shapes.write_text(text.replace(line, line + OPERATORS, 1))
        done.append(f"declared operators in {shapes.relative_to(packages)}")
    return done


if __name__ == "__main__":
    for line in repair(Path(sysconfig.get_paths()["purelib"])):
        print(line)
