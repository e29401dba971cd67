"""The processor a kernel is emitted for: vector width, registers, LLVM's names for it.

The host is described by LLVM itself. The named targets exist so that every code shape can be
emitted and assembled anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from holdfast.errors import BuildError


@dataclass(frozen=True)
class Target:
    """What the emitters need to know of a processor."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    """Vector registers."""

    def lanes(self, itemsize: int) -> int:
        """Elements of one vector register."""
        return self.vector_bytes // itemsize

    @property
    def dots(self) -> bool:
        """Whether it multiplies and adds bytes, four to a lane."""
        return self.vector_bytes == 64 and "+avx512vnni" in self.features.split(",")

    @property
    def pairs(self) -> bool:
        """Whether it multiplies bfloat16, two to a lane, and adds them to float32."""
        return self.vector_bytes == 64 and "+avx512bf16" in self.features.split(",")

    @property
    def key(self) -> str:
        """Everything that makes machine code differ."""
        return f"{self.triple} {self.cpu} {self.features} {self.vector_bytes} {self.registers}"


TARGETS: dict[str, Target] = {
    "avx2": Target("x86_64-unknown-linux-gnu", "haswell", "", 32, 16),
    "avx512": Target("x86_64-unknown-linux-gnu", "skylake-avx512", "", 64, 32),
    "neon": Target("aarch64-unknown-linux-gnu", "neoverse-n1", "", 16, 32),
}
"""Targets that can be emitted on any machine."""


@cache
def host() -> Target:
    """The processor this process runs on.

    >>> host().lanes(itemsize=4) >= 4
    True
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    found = llvm.get_host_cpu_features()
    features = found.flatten()
    triple = llvm.get_process_triple()
    cpu = llvm.get_host_cpu_name()
    if triple.startswith(("aarch64", "arm64")):
        return Target(triple, cpu, features, 16, 32)
    if found.get("avx512f") and found.get("avx512dq") and found.get("avx512vl"):
        return Target(triple, cpu, features, 64, 32)
    if found.get("avx2") and found.get("fma"):
        return Target(triple, cpu, features, 32, 16)
    return Target(triple, cpu, features, 16, 16)


def machine(target: Target, *, jit: bool = False) -> llvm.TargetMachine:
    """LLVM's code generator for a target.

    Errors: `BuildError` when this LLVM was built without the target.
    """
    if target == host():
        chosen = llvm.Target.from_default_triple()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        try:
            chosen = llvm.Target.from_triple(target.triple)
        except RuntimeError as error:
            raise BuildError(f"this llvmlite cannot emit for {target.triple}: {error}") from error
    return chosen.create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=3,
        jit=jit,
        reloc="pic" if not jit else "default",
    )
