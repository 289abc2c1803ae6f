"""cgroups v1, v2 and hybrid behind one set of verbs.

Owns the engine's directories in every hierarchy, what is written there and what is read. Refuses to
mount anything and to load programs (a function given to `open_cgroups` does), and refuses a limit
that this machine cannot honour rather than dropping it. Read `driver` first, then `plan` (limits to
files, pure), `hierarchies` (what this machine has), `tree` (where the directories are).
"""

from wherry.runtime.cgroups.apply import LoadDevices
from wherry.runtime.cgroups.devices import device_program
from wherry.runtime.cgroups.driver import CgroupDriver, Handle, open_cgroups
from wherry.runtime.cgroups.entrances import Entrances
from wherry.runtime.cgroups.hierarchies import Hierarchies, Hierarchy, detect
from wherry.runtime.cgroups.plan import Write, plan_v1, plan_v2

__all__ = [
    "CgroupDriver",
    "Entrances",
    "Handle",
    "Hierarchies",
    "Hierarchy",
    "LoadDevices",
    "Write",
    "detect",
    "device_program",
    "open_cgroups",
    "plan_v1",
    "plan_v2",
]
