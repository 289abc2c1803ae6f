"""Which verb is where: names, one-line summaries, and the modules that hold the commands.

Light on purpose: `wherry --help` and a misspelt verb need no command's module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.flags import Command

Entry = tuple[str, str]

CONTAINER: dict[str, Entry] = {
    "attach": (
        "attach:ATTACH",
        "Attach local standard input, output, and error streams to a running container",
    ),
    "commit": ("images_made:COMMIT", "Create a new image from a container's changes"),
    "cp": ("copy:COPY", "Copy files/folders between a container and the local filesystem"),
    "create": ("create:CREATE", "Create a new container"),
    "diff": ("facts:DIFF", "Inspect changes to files or directories on a container's filesystem"),
    "exec": ("execute:EXEC", "Execute a command in a running container"),
    "export": ("archives:EXPORT", "Export a container's filesystem as a tar archive"),
    "inspect": ("inspect:INSPECT_CONTAINER", "Display detailed information on containers"),
    "kill": ("lifecycle:KILL", "Kill one or more running containers"),
    "logs": ("logs:LOGS", "Fetch the logs of a container"),
    "ls": ("containers:LIST", "List containers"),
    "pause": ("lifecycle:PAUSE", "Pause all processes within one or more containers"),
    "port": ("facts:PORT", "List port mappings or a specific mapping for the container"),
    "prune": ("prune:PRUNE_CONTAINERS", "Remove all stopped containers"),
    "rename": ("lifecycle:RENAME", "Rename a container"),
    "restart": ("lifecycle:RESTART", "Restart one or more containers"),
    "rm": ("lifecycle:REMOVE", "Remove one or more containers"),
    "run": ("run:RUN", "Create and run a new container from an image"),
    "start": ("start:START", "Start one or more stopped containers"),
    "stats": ("stats:STATS", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("lifecycle:STOP", "Stop one or more running containers"),
    "top": ("facts:TOP", "Display the running processes of a container"),
    "unpause": ("lifecycle:UNPAUSE", "Unpause all processes within one or more containers"),
    "update": ("update:UPDATE", "Update configuration of one or more containers"),
    "wait": (
        "lifecycle:WAIT",
        "Block until one or more containers stop, then print their exit codes",
    ),
}
IMAGE: dict[str, Entry] = {
    "bootstrap": ("bootstrap:BOOTSTRAP", "Make a base image from the distribution's packages"),
    "build": ("build_command:BUILD", "Build an image from a Dockerfile"),
    "history": ("history:HISTORY", "Show the history of an image"),
    "import": (
        "archives:IMPORT",
        "Import the contents from a tarball to create a filesystem image",
    ),
    "inspect": ("inspect:INSPECT_IMAGE", "Display detailed information on images"),
    "load": ("archives:LOAD", "Load an image from a tar archive or STDIN"),
    "ls": ("images:LIST", "List images"),
    "prune": ("prune:PRUNE_IMAGES", "Remove unused images"),
    "pull": ("transfer:PULL", "Download an image from a registry"),
    "push": ("transfer:PUSH", "Upload an image to a registry"),
    "rm": ("images_made:REMOVE", "Remove one or more images"),
    "save": (
        "archives:SAVE",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
    ),
    "tag": ("images_made:TAG", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}
SYSTEM: dict[str, Entry] = {
    "df": ("disk:DISK", "Show disk usage"),
    "dial-stdio": ("dial:DIAL", "Carry standard input and output to the engine; for ssh://"),
    "events": ("events:EVENTS", "Get real time events from the server"),
    "info": ("info:INFO", "Display system-wide information"),
    "prune": ("prune:PRUNE_SYSTEM", "Remove unused data"),
}
NETWORK: dict[str, Entry] = {
    "connect": ("networks:CONNECT", "Connect a container to a network"),
    "create": ("networks:CREATE", "Create a network"),
    "disconnect": ("networks:DISCONNECT", "Disconnect a container from a network"),
    "prune": ("networks:PRUNE", "Remove all unused networks"),
    "repair": ("networks:REPAIR", "Make rules and links anew that somebody took away"),
    "rm": ("networks:REMOVE", "Remove one or more networks"),
    "ls": ("networks:LIST", "List networks"),
    "inspect": ("inspect:INSPECT_NETWORK", "Display detailed information on networks"),
}
VOLUME: dict[str, Entry] = {
    "create": ("volumes:CREATE", "Create a volume"),
    "prune": ("volumes:PRUNE", "Remove unused local volumes"),
    "rm": ("volumes:REMOVE", "Remove one or more volumes"),
    "ls": ("volumes:LIST", "List volumes"),
    "inspect": ("inspect:INSPECT_VOLUME", "Display detailed information on volumes"),
    "update": ("volumes:UPDATE", "Update a volume (cluster volumes only)"),
}
BUILDER: dict[str, Entry] = {
    "build": ("build_command:BUILD", "Build an image from a Dockerfile"),
    "du": ("builder:DU", "Show what the build cache uses"),
    "prune": ("builder:PRUNE", "Remove build cache"),
}
CONTEXT: dict[str, Entry] = {
    "create": ("context:CREATE", "Create a context"),
    "export": (
        "context:EXPORT",
        "Export a context to a tar archive FILE or a tar stream on STDOUT",
    ),
    "import": ("context:IMPORT", "Import a context from a tar or zip file"),
    "inspect": ("context:INSPECT", "Display detailed information on one or more contexts"),
    "ls": ("context:LIST", "List contexts"),
    "rm": ("context:REMOVE", "Remove one or more contexts"),
    "show": ("context:SHOW", "Print the name of the current context"),
    "update": ("context:UPDATE", "Update a context"),
    "use": ("context:USE", "Set the current context"),
}
REGISTRY: dict[str, Entry] = {
    "serve": ("registry:SERVE", "Serve a registry in this terminal"),
    "start": ("registry:START", "Start the engine's own registry"),
    "status": ("registry:STATUS", "Say whether the engine's own registry runs"),
    "stop": ("registry:STOP", "Stop the engine's own registry"),
}
MANIFEST: dict[str, Entry] = {
    "annotate": ("manifest:ANNOTATE", "Add additional information to a local image manifest"),
    "create": (
        "manifest:CREATE",
        "Create a local manifest list for annotating and pushing to a registry",
    ),
    "inspect": ("manifest:INSPECT", "Display an image manifest, or manifest list"),
    "push": ("manifest:PUSH", "Push a manifest list to a repository"),
    "referrers": ("manifest:REFERRERS", "List what refers to an image in its registry"),
    "rm": ("manifest:REMOVE", "Delete one or more manifest lists from local storage"),
}
GROUPS: dict[str, tuple[str, dict[str, Entry]]] = {
    "builder": ("Manage builds", BUILDER),
    "container": ("Manage containers", CONTAINER),
    "context": ("Manage contexts", CONTEXT),
    "image": ("Manage images", IMAGE),
    "manifest": ("Manage image manifests and manifest lists", MANIFEST),
    "network": ("Manage networks", NETWORK),
    "registry": ("Serve images to others", REGISTRY),
    "system": ("Manage wherry", SYSTEM),
    "volume": ("Manage volumes", VOLUME),
}
# What stands at the top without a group of its own.
ALONE: dict[str, Entry] = {
    "completion": ("completion:COMPLETION", "Print a completion script for a shell"),
    "inspect": ("inspect:INSPECT", "Return low-level information on objects"),
    "login": ("login:LOGIN", "Authenticate to a registry"),
    "logout": ("login:LOGOUT", "Log out from a registry"),
    "search": ("search:SEARCH", "Search Docker Hub or a registry for images"),
    "version": ("version:VERSION", "Show the wherry version information"),
}
COMMON = ("run", "exec", "ps", "images", "logs", "pull", "version", "info")
_RENAMED = {
    "ps": ("container", "ls"),
    "images": ("image", "ls"),
    "rmi": ("image", "rm"),
    "events": ("system", "events"),
    "info": ("system", "info"),
}
_TOP_IMAGE = ("build", "history", "import", "load", "pull", "push", "save", "tag")
TOP: dict[str, tuple[str, str]] = {
    **{verb: ("container", verb) for verb in CONTAINER if verb not in ("inspect", "ls", "prune")},
    **{verb: ("image", verb) for verb in _TOP_IMAGE},
    **_RENAMED,
}
_SYNONYMS = {
    ("container", "list"): "ls",
    ("container", "ps"): "ls",
    ("container", "remove"): "rm",
    ("context", "list"): "ls",
    ("context", "remove"): "rm",
    ("image", "list"): "ls",
    ("image", "remove"): "rm",
    ("network", "list"): "ls",
    ("network", "remove"): "rm",
    ("volume", "remove"): "rm",
    ("volume", "list"): "ls",
}
ABSENT = (
    *("buildx", "checkpoint", "compose"),
    *("plugin", "trust", "config", "node", "secret", "service", "stack", "swarm"),
)


def entry_of(group: str, verb: str) -> Entry | None:
    """Return the entry of a group's verb by any of its names."""
    return GROUPS[group][1].get(_SYNONYMS.get((group, verb), verb))


def top_entry(verb: str) -> Entry | None:
    """Return the entry of a top-level verb."""
    if verb in ALONE:
        return ALONE[verb]
    if verb in TOP:
        group, name = TOP[verb]
        return GROUPS[group][1][name]
    return None


def load(entry: Entry) -> Command:
    """Import the module of `entry` and return its command."""
    module, _, name = entry[0].partition(":")
    return getattr(__import__(f"wherry.cli.verbs.{module}", fromlist=[name]), name)


def aliases(path: str) -> list[str]:
    """Return every way to write the command at `path`, the longest names first."""
    words = path.split(" ")
    if len(words) == 2:
        group, verb = words[0], _SYNONYMS.get((words[0], words[1]), words[1])
    elif words[0] in TOP:
        group, verb = TOP[words[0]]
    else:
        return []
    out = [f"{group} {verb}"]
    out += [f"{g} {v}" for (g, v), name in _SYNONYMS.items() if (g, name) == (group, verb)]
    out += [top for top, place in TOP.items() if place == (group, verb)]
    return out if len(out) > 1 else []


def top_verbs() -> list[str]:
    """Return every word that may come first."""
    return sorted({*TOP, *ALONE, *GROUPS})
