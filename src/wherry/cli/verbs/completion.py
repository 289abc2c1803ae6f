"""`wherry completion`: scripts for shells, from the tables that parse the commands."""

from __future__ import annotations

from wherry.cli import tree
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session

_CONTAINERS = "ps --all --format '{{.Names}}'"
_IMAGES = "images --filter dangling=false --format '{{.Repository}}:{{.Tag}}'"
_VOLUMES = "volume ls --quiet"
_NETWORKS = "network ls --format '{{.Name}}'"
_CONTEXTS = "context ls --quiet"
# What the first argument may be, by the word that the usage has for it.
_ARGUMENTS = {
    **dict.fromkeys(("CONTAINER", "NAME|ID"), _CONTAINERS),
    **dict.fromkeys(("IMAGE", "SOURCE_IMAGE", "REPOSITORY"), _IMAGES),
    "VOLUME": _VOLUMES,
    "NETWORK": _NETWORKS,
    "CONTEXT": _CONTEXTS,
}
_VALUES = {
    "network": _NETWORKS,
    "net": _NETWORKS,
    "volumes-from": _CONTAINERS,
}
_GLOBAL_VALUES = "-H|--host|-c|--context|-l|--log-level|--config|--tlscacert|--tlscert|--tlskey"
"""Global flags with a value, which may stand before the verb."""


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
    if command.summary.startswith(("Create a volume", "Create a network", "Create a context")):
        return ""
    return next((names for word, names in _ARGUMENTS.items() if first.startswith(word)), "")


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
        lister = f'names="$(_wherry_ask {names})"' if names else 'names=""'
        cases.append(
            f'        "{path}") flags="{" ".join(words_of(command))}"; '
            f'takes="{_value_flags(command)}"; {lister} ;;'
        )
    groups = "|".join(tree.GROUPS)
    subverbs = "\n".join(
        f'        {group}) verbs="{" ".join(verbs)}" ;;'
        for group, (_, verbs) in tree.GROUPS.items()
    )
    values = "\n".join(
        f'            --{flag}) names="$(_wherry_ask {names})" ;;'
        for flag, names in _VALUES.items()
    )
    newline = "\n"
    return f"""# bash completion for wherry: source it, or put it into bash-completion's folder.
_wherry_ask() {{
    wherry "${{engine[@]}}" --no-start "$@" 2>/dev/null
}}
_wherry() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local path="" verbs="" flags="" takes="" names="" engine=() i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in
            {_GLOBAL_VALUES})
                engine+=("${{COMP_WORDS[i]}}" "${{COMP_WORDS[i+1]}}"); ((i++)) ;;
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
        case "$previous" in
{values}
            *) names=""; compopt -o default ;;
        esac
        COMPREPLY=($(compgen -W "$names" -- "$word"))
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
        names = _VALUES.get(flag.name)
        action = _zsh_quoted(_zsh_names(names)) if names else "_files"
        value = f":{flag.label}:{action}" if flag.takes_value else ""
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
        "    local -a verbs engine",
        "    local -i at=2",
        "    while (( at < CURRENT )) && [[ ${words[at]} == -* ]]; do",
        f"        case ${{words[at]}} in ({_GLOBAL_VALUES})",
        "            engine+=(${words[at]} ${words[at+1]}); (( at++ )) ;;",
        "        esac",
        "        (( at++ ))",
        "    done",
        # Not `path`, which is zsh's name for PATH.
        '    local verb="${words[at]}"',
        "    if (( CURRENT == at )); then",
        "        verbs=(",
    ]
    for verb in tree.top_verbs():
        entry = tree.top_entry(verb)
        summary = entry[1] if entry else tree.GROUPS[verb][0]
        lines.append(f"            '{verb}:{_zsh_text(summary)}'")
    lines += ["        )", "        _describe command verbs", "        return", "    fi"]
    lines += ["    if (( CURRENT == at + 1 )); then", "        case $verb in"]
    for group, (_, verbs) in tree.GROUPS.items():
        described = " ".join(f"'{verb}:{_zsh_text(entry[1])}'" for verb, entry in verbs.items())
        lines.append(
            f"            {group}) verbs=({described}); _describe command verbs; return ;;"
        )
    lines += [
        "        esac",
        "    fi",
        f'    case $verb in ({"|".join(tree.GROUPS)}) (( at++ )); verb="$verb ${{words[at]}}" ;; esac',
        "    shift $((at - 1)) words; (( CURRENT -= at - 1 ))",
        "    case $verb in",
    ]
    for path, command in paths().items():
        arguments = " ".join(_zsh_flags(command.flags))
        names = _names(command)
        action = _zsh_names(names) if names else "_files"
        lines.append(f'        "{path}")')
        lines.append(f"            _arguments -S {arguments} '*:argument:{_zsh_quoted(action)}' ;;")
    lines += ["    esac", "}", "", '_wherry "$@"', ""]
    return "\n".join(lines)


def _zsh_names(names: str) -> str:
    """The action that offers what the engine has."""
    asked = f"wherry $engine --no-start {names} 2>/dev/null"
    return f'{{compadd -- ${{(f)"$({asked})"}}}}'


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
    flags = _GLOBAL_VALUES.replace("|", " ")
    lines += [
        "function __wherry_engine",
        "    set -l words (commandline -opc)",
        "    set -l take no",
        "    for word in $words[2..-1]",
        "        if test $take = yes",
        "            echo $word",
        "            set take no",
        f"        else if contains -- $word {flags}",
        "            echo $word",
        "            set take yes",
        "        else",
        "            string match -q -- '-*' $word; or break",
        "        end",
        "    end",
        "end",
        "function __wherry_ask",
        "    wherry (__wherry_engine) --no-start $argv 2>/dev/null",
        "end",
    ]
    lines += ["function __wherry_path", "    set -l words (commandline -opc) ", "    set -l path"]
    lines += [
        "    set -l skip no",
        "    for word in $words[2..-1]",
        "        if test $skip = yes",
        "            set skip no",
        "            continue",
        "        end",
        f'        if test -z "$path"; and contains -- $word {flags}',
        "            set skip yes",
        "        end",
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
            if flag.name in _VALUES:
                value = f' -r -f -a "(__wherry_ask {_VALUES[flag.name]})"'
            lines.append(f"{condition}{short} -l {flag.name}{value} -d '{_fish_text(flag.help)}'")
        names = _names(command)
        if names:
            lines.append(f'{condition} -a "(__wherry_ask {names})"')
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
