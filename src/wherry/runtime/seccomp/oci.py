"""`linux.seccomp` of an OCI runtime specification, read into a Filter."""

from __future__ import annotations

from wherry.model.errors import Invalid, Unsupported
from wherry.runtime.seccomp.architectures import ARCHITECTURES
from wherry.runtime.seccomp.rules import (
    DEFAULT_FLAGS,
    Argument,
    Filter,
    Op,
    Rule,
    check_flag,
    ret_of,
)
from wherry.runtime.seccomp.shapes import as_list, as_number, as_object, as_text, as_texts

MAX_ARGUMENTS = 6
_OPS = {op.value: op for op in Op}


def parse_oci(document: object) -> Filter:
    """Return the filter that the decoded JSON `document` describes.

    Raises Invalid, naming the place, and Unsupported for what needs a listener.
    """
    top = as_object(document, "the document")
    if as_text(top.get("listenerPath"), "listenerPath"):
        raise Unsupported("seccomp profile: listenerPath is not in this version")
    errno = as_number(top.get("defaultErrnoRet"), "defaultErrnoRet")
    rules: list[Rule] = []
    for i, item in enumerate(as_list(top.get("syscalls"), "syscalls")):
        where = f"syscalls[{i}]"
        entry = as_object(item, where)
        rules += read_rules(entry, as_texts(entry.get("names"), f"{where}.names"), where)
    return Filter(
        default_ret=ret_of(read_default_action(top), errno, "defaultAction"),
        rules=tuple(rules),
        architectures=read_architectures(top.get("architectures"), "architectures"),
        flags=read_flags(top),
    )


def read_default_action(top: dict[str, object]) -> str:
    """Return `defaultAction`, or raise Invalid when there is none."""
    action = as_text(top.get("defaultAction"), "defaultAction")
    if not action:
        raise Invalid("seccomp profile: no defaultAction", hint='for example "SCMP_ACT_ERRNO"')
    return action


def read_flags(top: dict[str, object]) -> tuple[str, ...]:
    """Return `flags`, or the default ones where the key is absent. Raises Invalid."""
    if top.get("flags") is None:
        return DEFAULT_FLAGS
    return tuple(check_flag(flag) for flag in as_texts(top["flags"], "flags"))


def read_architectures(value: object, where: str) -> tuple[str, ...]:
    """Return OCI architecture names that the specification has, or raise Invalid."""
    names = as_texts(value, where)
    for name in names:
        if name not in ARCHITECTURES:
            raise Invalid(
                f"seccomp profile: {where}: string {name} is not a valid arch for seccomp"
            )
    return names


def read_rules(entry: dict[str, object], names: tuple[str, ...], where: str) -> list[Rule]:
    """Return the rules that one `syscalls` entry means.

    An argument index named twice makes the entry's comparisons alternatives, as runc reads it.
    Raises Invalid or Unsupported.
    """
    errno = as_number(entry.get("errnoRet"), f"{where}.errnoRet")
    ret = ret_of(as_text(entry.get("action"), f"{where}.action"), errno, f"{where}.action")
    items = as_list(entry.get("args"), f"{where}.args")
    arguments = tuple(_read_argument(item, f"{where}.args[{i}]") for i, item in enumerate(items))
    if len({argument.index for argument in arguments}) < len(arguments):
        return [Rule(names, ret, (argument,)) for argument in arguments]
    return [Rule(names, ret, arguments)]


def _read_argument(item: object, where: str) -> Argument:
    entry = as_object(item, where)
    op = as_text(entry.get("op"), f"{where}.op")
    if op not in _OPS:
        raise Invalid(
            f"seccomp profile: {where}.op: string {op} is not a valid operator for seccomp",
            hint="one of " + ", ".join(_OPS),
        )
    index = as_number(entry.get("index"), f"{where}.index") or 0
    if index >= MAX_ARGUMENTS:
        raise Invalid(
            f"seccomp profile: {where}.index: syscalls only have up to {MAX_ARGUMENTS} arguments "
            f"({index} given)"
        )
    return Argument(
        index=index,
        op=_OPS[op],
        value=as_number(entry.get("value"), f"{where}.value") or 0,
        value_two=as_number(entry.get("valueTwo"), f"{where}.valueTwo") or 0,
    )
