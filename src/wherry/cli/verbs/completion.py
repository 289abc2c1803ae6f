"""`wherry completion`: scripts for shells, from the tables that parse the commands."""

from __future__ import annotations

from wherry.cli import tree
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session

_CONTAINERS = "wherry --no-start ps --all --format '{{.Names}}' 2>/dev/null"
_IMAGES = "wherry --no-start images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
_VOLUMES = "wherry --no-start volume ls --quiet 2>/dev/null"


def paths() -> dict[str, Command]:
    """Return every command by its words, `run` and `container run` alike."""
    out: dict[str, Command] = {}
    for verb in tree.top_verbs():
        entry = tree.top_entry(verb)
        if entry is not None:
            out[verb] = tree.load(entry)
    for group, (_, verbs) in tree.GROUPS.items():
        for verb, entry in verbs.items():
            out[f"{group} {verb}"] = tree.load(entry)
    return out


def words_of(command: Command) -> list[str]:
    """Return a command's flags as they are typed."""
    words: list[str] = []
    for flag in command.flags:
        if not flag.hidden:
            words.append(f"--{flag.name}")
            if flag.short:
                words.append(f"-{flag.short}")
    return sorted(words) + ["--help"]


def _names(command: Command) -> str:
    """The shell command that lists what the first argument may be."""
    first = command.usage.replace("[OPTIONS]", "").strip().lstrip("[").split(" ")[0]
    if first.startswith(("CONTAINER", "NAME|ID")):
        return _CONTAINERS
    if first.startswith(("IMAGE", "SOURCE_IMAGE", "REPOSITORY")):
        return _IMAGES
    if first.startswith("VOLUME"):
        return _VOLUMES
    return ""


def _value_flags(command: Command) -> str:
    spellings: list[str] = []
    for flag in command.flags:
        if flag.takes_value:
            spellings.append(f"--{flag.name}")
            if flag.short:
                spellings.append(f"-{flag.short}")
    return "|".join(sorted(spellings))


def render_bash() -> str:
    """Return the script for bash."""
    cases: list[str] = []
    for path, command in paths().items():
        names = _names(command)
        lister = f'names="$({names})"' if names else 'names=""'
        cases.append(
            f'        "{path}") flags="{" ".join(words_of(command))}"; '
            f'takes="{_value_flags(command)}"; {lister} ;;'
        )
    groups = "|".join(tree.GROUPS)
    subverbs = "\n".join(
        f'        {group}) verbs="{" ".join(verbs)}" ;;'
        for group, (_, verbs) in tree.GROUPS.items()
    )
    newline = "\n"
    return f"""# bash completion for wherry: source it, or put it into bash-completion's folder.
_wherry() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local path="" verbs="" flags="" takes="" names="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in
            -H|--host|-c|--context|-l|--log-level) ((i++)) ;;
            -*) ;;
            *)  path="${{path:+$path }}${{COMP_WORDS[i]}}"
                [[ "$path" =~ ^({groups})$ ]] || break ;;
        esac
    done
    case "$path" in
        "") verbs="{" ".join(tree.top_verbs())}" ;;
{subverbs}
{newline.join(cases)}
    esac
    if [[ -n "$takes" && "$previous" =~ ^($takes)$ ]]; then
        compopt -o default
        COMPREPLY=()
    elif [[ "$word" == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    else
        COMPREPLY=($(compgen -W "$verbs $names" -- "$word"))
        [[ ${{#COMPREPLY[@]}} -gt 0 ]] || compopt -o default
    fi
    [[ "${{COMPREPLY[0]}}" == *:* ]] && __ltrim_colon_completions "$word" 2>/dev/null
    return 0
}}
complete -F _wherry wherry
"""


def _zsh_text(text: str) -> str:
    return text.replace("'", "").replace("[", "(").replace("]", ")").replace(":", " ")


def _zsh_flags(flags: tuple[Flag, ...]) -> list[str]:
    out: list[str] = []
    for flag in flags:
        if flag.hidden:
            continue
        value = f":{flag.label}:_files" if flag.takes_value else ""
        star = "*" if flag.many else ""
        out.append(f"'{star}--{flag.name}[{_zsh_text(flag.help)}]{value}'")
        if flag.short:
            out.append(f"'{star}-{flag.short}[{_zsh_text(flag.help)}]{value}'")
    return out


def render_zsh() -> str:
    """Return the script for zsh."""
    lines = [
        "#compdef wherry",
        "# zsh completion for wherry: put it into a folder of $fpath as _wherry.",
        "",
    ]
    lines += [
        "_wherry() {",
        "    local -a verbs",
        '    local path="${words[2]}"',
        "    local skip=2",
    ]
    lines += ["    case $path in", f"        {'|'.join(tree.GROUPS)})"]
    lines += [
        '            [[ CURRENT -gt 3 ]] && { path="$path ${words[3]}"; skip=3 } ;;',
        "    esac",
    ]
    lines += ["    if (( CURRENT == 2 )); then", "        verbs=("]
    for verb in tree.top_verbs():
        entry = tree.top_entry(verb)
        summary = entry[1] if entry else tree.GROUPS[verb][0]
        lines.append(f"            '{verb}:{_zsh_text(summary)}'")
    lines += [
        "        )",
        "        _describe command verbs",
        "        return",
        "    fi",
        "    case $path in",
    ]
    for group, (_, verbs) in tree.GROUPS.items():
        described = " ".join(f"'{verb}:{_zsh_text(entry[1])}'" for verb, entry in verbs.items())
        lines.append(f"        {group}) verbs=({described}); _describe command verbs; return ;;")
    for path, command in paths().items():
        arguments = " ".join(_zsh_flags(command.flags))
        names = _names(command)
        action = f'{{compadd -- ${{(f)"$({names})"}}}}' if names else "_files"
        lines.append(f'        "{path}")')
        lines.append("            shift $((skip - 1)) words; (( CURRENT -= skip - 1 ))")
        lines.append(f"            _arguments -S {arguments} '*:argument:{_zsh_quoted(action)}' ;;")
    lines += ["    esac", "}", "", '_wherry "$@"', ""]
    return "\n".join(lines)


def _zsh_quoted(action: str) -> str:
    return action.replace("'", "'\\''")


def _fish_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def render_fish() -> str:
    """Return the script for fish."""
    lines = [
        "# fish completion for wherry: put it into ~/.config/fish/completions/wherry.fish.",
        "",
    ]
    lines += ["function __wherry_path", "    set -l words (commandline -opc) ", "    set -l path"]
    lines += [
        "    for word in $words[2..-1]",
        "        string match -q -- '-*' $word; and continue",
    ]
    lines += [
        "        set -a path $word",
        f'        contains -- "$path" {" ".join(tree.GROUPS)}; or break',
    ]
    lines += ["    end", '    test "$path" = "$argv"', "end", "", "complete -c wherry -f"]
    for verb in tree.top_verbs():
        entry = tree.top_entry(verb)
        summary = _fish_text(entry[1] if entry else tree.GROUPS[verb][0])
        lines.append(f"complete -c wherry -n '__wherry_path' -a '{verb}' -d '{summary}'")
    for group, (_, verbs) in tree.GROUPS.items():
        for verb, entry in verbs.items():
            summary = _fish_text(entry[1])
            lines.append(
                f"complete -c wherry -n '__wherry_path {group}' -a '{verb}' -d '{summary}'"
            )
    for path, command in paths().items():
        condition = f"complete -c wherry -n '__wherry_path {path}'"
        for flag in command.flags:
            if flag.hidden:
                continue
            short = f" -s {flag.short}" if flag.short else ""
            value = " -r -F" if flag.takes_value else ""
            lines.append(f"{condition}{short} -l {flag.name}{value} -d '{_fish_text(flag.help)}'")
        names = _names(command)
        if names:
            lines.append(f'{condition} -a "({names})"')
    return "\n".join(lines) + "\n"


def _completion(session: Session, _options: Options, arguments: list[str]) -> int:
    renderers = {"bash": render_bash, "zsh": render_zsh, "fish": render_fish}
    render = renderers.get(arguments[0])
    if render is None:
        raise Failure(f"wherry: no completion for {arguments[0]!r}: bash, zsh or fish")
    session.write(render())
    return 0


COMPLETION = Command(
    _completion,
    "bash|zsh|fish",
    "Print a completion script for a shell",
    least=1,
    most=1,
    details="  source <(wherry completion bash)",
)
