"""Certificates for tests, made by openssl: an authority, and what it signs."""

import subprocess
from pathlib import Path

LIMIT_S = 30


def openssl(*words: str | Path) -> str:
    """What it says to that."""
    done = subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"openssl {' '.join(map(str, words))}: {done.stderr}"
    return done.stdout + done.stderr


def validity(days: int) -> list[str]:
    """Arguments of openssl x509. From 3.4 on it takes no end before today, but both dates."""
    if days >= 0 or "-not_after" not in openssl("x509", "-help"):
        return ["-days", str(days)]
    return ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"]


class Certificate:
    """A certificate and its key, each in a file."""

    def __init__(self, folder: Path, name: str):
        self.file, self.key = folder / f"{name}.crt", folder / f"{name}.key"


class Authority(Certificate):
    """Signs certificates; its own is signed by itself."""

    def __init__(self, folder: Path, name: str):
        super().__init__(folder, name)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.file,
                "-subj", f"/CN={name}", "-days", "30")  # fmt: skip

    def sign(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 30) -> Certificate:
        """`names`: that it is for, as openssl writes them. `days`: below 0 it has expired."""
        made = Certificate(self.folder, name)
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", made.key, "-out", request,
                "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.key, "-CAcreateserial", *validity(days),
                "-extfile", extensions, "-out", made.file)  # fmt: skip
        return made

    def server_arguments(self, made: Certificate, clients: str = "yes") -> list[str]:
        """Arguments by which redis-server shows the certificate. `clients`: "yes" if clients must show one that this authority signed."""
        return ["--tls-cert-file", str(made.file), "--tls-key-file", str(made.key), "--tls-ca-cert-file", str(self.file), "--tls-auth-clients", clients]
