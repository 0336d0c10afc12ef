"""The processes that ``torchrun`` started, or this one alone."""

import os
from dataclasses import dataclass
from datetime import timedelta

_PATIENCE = timedelta(days=7)  # for the slowest process: whole catalogues of trailers


@dataclass(frozen=True)
class World:
    """``size`` processes, this one being ``rank``; ``local_rank`` is its number on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """True in the process that merges, writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            import torch.distributed as processes

            processes.barrier()

    def leave(self) -> None:
        """Take leave of the others."""
        if self.size > 1:
            import torch.distributed as processes

            processes.destroy_process_group()


def join_world() -> World:
    """As torchrun's environment says."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    import torch.distributed as processes

    processes.init_process_group("gloo", timeout=_PATIENCE)
    return World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
