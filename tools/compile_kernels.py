#!/usr/bin/env python3
"""Compiles the kernels of src/cuda by NVRTC, without a GPU, into what the program carries.

    python3 tools/compile_kernels.py [--site FOLDER ...]            writes src/cuda/compiled
    python3 tools/compile_kernels.py [--site FOLDER ...] --check    says whether src/cuda/compiled is up to date

NVRTC is looked for in the Python package nvidia-cuda-nvrtc-cu12 (of this Python, or in the folders given by --site), then in a toolkit.
Version 12.0 wrote what is committed (pip install nvidia-cuda-nvrtc-cu12==12.0.140). A newer one writes PTX that older drivers refuse.

For kernels.cu and product.cu each there is PTX for compute capability 8.0, which drivers of CUDA 12.0 and newer (525.60) compile for the GPU at
hand, and machine code for 9.0. All are compressed by gzip. sources.txt names for each source its length and CRC-32: a test holds it against
the sources, so that nobody changes them and forgets this tool.

--check compiles again. With the version of NVRTC that sources.txt names all bytes must be the same, with another only lengths and CRC-32.
Both ways print the registers and the local memory of each kernel in the code for 9.0. The tool ends with 1 if a kernel uses local memory, or
if --check finds a difference, and with 3 if there is no NVRTC.
"""

import argparse
import ctypes
import glob
import gzip
import os
import pathlib
import re
import sys
import sysconfig
import zlib

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "src/cuda"
COMPILED = FOLDER / "compiled"
SOURCES = ["kernels", "product"]
TARGETS = {"compute_80": "ptx", "sm_90": "cubin"}
# The exit code that says that there is no NVRTC here.
NO_NVRTC = 3
# Kernels that may use local memory. There are none.
MAY_SPILL = set()


def library(sites):
    """The path of NVRTC's shared library."""
    for site in sites:
        for path in sorted(glob.glob(os.path.join(site, "nvidia", "**", "libnvrtc.so.*"), recursive=True)):
            if ".alt." not in path:
                return path
    for home in filter(None, [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]):
        path = os.path.join(home, "lib64", "libnvrtc.so")
        if os.path.exists(path):
            return path
    return "libnvrtc.so"


class Nvrtc:
    def __init__(self, path):
        for builtins in glob.glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so*")):
            if ".alt." not in builtins:
                ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.check(self.lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = f"{major.value}.{minor.value}"

    def check(self, code):
        if code:
            self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(self.lib.nvrtcGetErrorString(code).decode())

    def bytes_of(self, program, what):
        size = ctypes.c_size_t()
        self.check(getattr(self.lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(max(size.value, 1))
        self.check(getattr(self.lib, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw[: size.value]

    def compile(self, name, source, target):
        """Returns the code and the compiler's log."""
        program = ctypes.c_void_p()
        self.check(self.lib.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None))
        options = [f"--gpu-architecture={target}".encode(), b"--std=c++17", b"--ptxas-options=-v"]
        failed = self.lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = self.bytes_of(program, "ProgramLog").rstrip(b"\0").decode()
        if failed:
            sys.exit(f"{name}, {target}:\n{log}")
        code = self.bytes_of(program, "PTX" if TARGETS[target] == "ptx" else "CUBIN")
        self.check(self.lib.nvrtcDestroyProgram(ctypes.byref(program)))
        return (code.rstrip(b"\0") if TARGETS[target] == "ptx" else code), log


def usage(log):
    """Returns registers, bytes of stack and of spills, and static shared memory of each kernel, from the words of the assembler."""
    found, name = {}, None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match[1]
            found[name] = {"stack": 0, "spills": 0}
        elif name and (match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            # There is a line for the kernel and one for each function that it calls.
            found[name]["stack"] = max(int(match[1]), found[name]["stack"])
            found[name]["spills"] += int(match[2]) + int(match[3])
        elif name and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            found[name].update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    return found


def print_table(source, log):
    """Prints what each kernel takes, in the order of the source; returns the names of those that use local memory and must not."""
    found = usage(log)
    wrong = []
    print(f"\n{source + ', sm_90':34}{'registers':>10}{'stack':>7}{'spills':>8}{'shared':>8}")
    for name in re.findall(r'^extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)', (FOLDER / source).read_text(encoding="utf-8"), re.M):
        taken = found[name]
        print(f"{name:34}{taken['registers']:>10}{taken['stack']:>7}{taken['spills']:>8}{taken['shared']:>8}")
        if taken["stack"] + taken["spills"] and name not in MAY_SPILL:
            wrong.append(name)
    return wrong


def stamp(version):
    """Returns the text of sources.txt."""
    lines = [f"nvrtc {version}\n"]
    for source in SOURCES:
        data = (FOLDER / f"{source}.cu").read_bytes()
        lines.append(f"{source}.cu {len(data)} {zlib.crc32(data):08x}\n")
    return "".join(lines)


def pack(data):
    """Returns gzip of the data, the same bytes each time."""
    return gzip.compress(data, 9, mtime=0)


def check(made, version):
    """Prints what differs from the committed files; returns whether anything does."""
    committed = (COMPILED / "sources.txt").read_text()
    wrong = [] if committed.split("\n", 1)[1] == stamp(version).split("\n", 1)[1] else ["sources.txt"]
    if committed == stamp(version):
        wrong += [name for name, code in made.items() if gzip.decompress((COMPILED / name).read_bytes()) != code]
    elif not wrong:
        print(f"\nNVRTC {version} is another than that of the committed files ({committed.split(chr(10))[0]}): only lengths and CRC-32 are compared")
    print(f"\nout of date: {', '.join(wrong)}" if wrong else "\nsrc/cuda/compiled is up to date")
    return bool(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", nargs="*", default=[], help="further site-packages folders to look for NVRTC in")
    parser.add_argument("--check", action="store_true", help="compare with what is committed instead of writing it")
    arguments = parser.parse_args()
    try:
        nvrtc = Nvrtc(library([*arguments.site, sysconfig.get_paths()["purelib"]]))
    except OSError as error:
        print(f"NVRTC can't be loaded: {error}")
        sys.exit(NO_NVRTC)
    print(f"NVRTC {nvrtc.version}")
    made, spilling = {}, []
    for source in SOURCES:
        for target, kind in TARGETS.items():
            code, log = nvrtc.compile(f"{source}.cu", (FOLDER / f"{source}.cu").read_bytes(), target)
            made[f"{source}.{target}.{kind}.gz"] = code
            if kind == "cubin":
                spilling += print_table(f"{source}.cu", log)
    if spilling:
        print(f"\nuse local memory: {', '.join(spilling)}")
    if arguments.check:
        sys.exit(check(made, nvrtc.version) or bool(spilling))
    COMPILED.mkdir(exist_ok=True)
    for name, code in made.items():
        packed = pack(code)
        (COMPILED / name).write_bytes(packed)
        print(f"{name}: {len(code)} bytes, {len(packed)} packed")
    (COMPILED / "sources.txt").write_text(stamp(nvrtc.version))
    sys.exit(bool(spilling))


if __name__ == "__main__":
    main()
