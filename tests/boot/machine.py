"""An emulated machine: a disk image of a tree, a kernel with what it needs to find the disk, and qemu without KVM and without network."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from debian import Debian

DISK_MIB = 1500  # sparse: what is not written takes no room
MEMORY_MIB = 1024
# The kernel for virtual machines has ext4 in it and finds a disk with these, in this order; a later one has some of them in it too.
MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"]
# apt's own user may not write where a test may.
DOWNLOAD_KERNEL = (
    "apt-get -q -o APT::Sandbox::User=root download $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \\(linux-image-.*\\)/\\1/p')"
)
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
for module in {modules}; do
  /bin/busybox insmod "/$module.ko" || echo "init: $module is not loaded"
done
/bin/busybox mount -t ext4 /dev/vda /disk || echo "init: there is no disk"
/bin/busybox umount /proc
/bin/busybox mount --move /dev /disk/dev
exec /bin/busybox switch_root /disk /lib/systemd/systemd
"""


def pack(folder: Path, output: Path) -> None:
    """A folder as an initial file system for the kernel."""
    names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    with open(output, "wb") as file:
        subprocess.run(["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0"], input=names.encode(), cwd=folder, stdout=file, check=True)


def download_kernel(folder: Path, release: str) -> Path:
    """The package of Debian's kernel for virtual machines: this machine's Debian's, or a release's."""
    if release:
        with Debian(release) as debian:
            debian.run(f"mkdir /kernel && apt-get update -qq && cd /kernel && {DOWNLOAD_KERNEL}")
            shutil.move(next(debian.root.glob("kernel/*.deb")), folder)
    else:
        subprocess.run(["sh", "-c", DOWNLOAD_KERNEL], cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return next(folder.glob("linux-image-*.deb"))


def fetch_kernel(folder: Path, release: str = "") -> tuple[Path, Path]:
    """Kernel and initial file system in `folder`. Kept."""
    kernel, initrd = folder / "vmlinuz", folder / "initrd"
    if kernel.exists() and initrd.exists():
        return kernel, initrd
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        work = Path(made)
        package = download_kernel(work, release)
        root = work / "root"
        subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)
        builtin = next(root.rglob("modules.builtin")).read_text()
        modules = [name for name in MODULES if f"/{name}.ko\n" not in builtin]
        first = work / "first"
        for part in ("bin", "dev", "proc", "disk"):
            (first / part).mkdir(parents=True)
        for module in modules:
            found = next(root.rglob(f"{module}.ko*"))
            if found.suffix == ".xz":
                subprocess.run(["xz", "--decompress", str(found)], check=True)
                found = found.with_suffix("")
            shutil.copy(found, first / f"{module}.ko")
        shutil.copy(shutil.which("busybox") or "/bin/busybox", first / "bin/busybox")
        (first / "init").write_text(INIT.format(modules=" ".join(modules)))
        (first / "init").chmod(0o755)
        pack(first, initrd)
        shutil.copy(next(root.glob("boot/vmlinuz-*")), kernel)
    return kernel, initrd


def make_disk(tree: Path, disk: Path) -> None:
    disk.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(disk), f"{DISK_MIB}M"], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def boot(kernel: Path, initrd: Path, disk: Path, command_line: str, console: Path, limit_s: float) -> str:
    """Boots and returns, once the machine has ended, what it wrote to its console. Fails where it does not end within the limit."""
    # fmt: off
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", str(MEMORY_MIB), "-smp", "2", "-nographic", "-no-reboot",
               "-nodefaults", "-serial", f"file:{console}", "-nic", "none", "-kernel", str(kernel), "-initrd", str(initrd),
               # Nothing of this disk must survive this machine's own crash.
               "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
               "-append", f"console=ttyS0 root=/dev/vda rw panic=-1 quiet systemd.show_status=0 {command_line}"]
    # fmt: on
    console.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the emulated machine did not end within {limit_s} s; its console:\n{text_of(console)[-12000:]}") from None
    if done.returncode != 0:
        raise AssertionError(f"qemu ended with {done.returncode}: {done.stdout}\n{text_of(console)[-12000:]}")
    return text_of(console)


def text_of(console: Path) -> str:
    text = console.read_text(errors="replace") if console.exists() else ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def can_emulate() -> str:
    """Why not; empty: it can."""
    if os.geteuid() != 0:
        return "making a Debian needs root"
    lacking = [name for name in ("qemu-system-x86_64", "mmdebstrap", "mke2fs", "cpio", "busybox") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""
