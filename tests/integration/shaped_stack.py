"""A stack in the place of other counters."""

from harness import Stack, free_port

OWNER_KEY = "correct-horse-battery-staple"


class ShapedStack(Stack):
    """It serves these shapes, has a private address, and knows a key of the owner."""

    def __init__(self, *shapes: str, http: dict | None = None, settings: dict | None = None, frontends: int = 2,
                 supervised: bool = False):  # fmt: skip
        self.private = free_port()
        served = {"shapes": list(shapes), "private_listen": [f"127.0.0.1:{self.private}"]} | (http or {})
        super().__init__(frontends=frontends, settings={"http": served, "cache": {"ttl_ms": 300}} | (settings or {}), supervised=supervised)
        key_file = self.folder / "owner_key"
        key_file.write_text(OWNER_KEY + "\n")
        self.settings["owner"] = {"key_file": str(key_file)}
        self.write_settings()
