"""Completion scripts for shells, from the words of the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metarl.commands.completion import Words

BASH = r"""# Completion of metarl for bash: eval "$(metarl completion bash)"
_metarl_runs() {  # folders of runs and of seeds below $1, and folders on the way to them
    local folder
    compgen -d -- "$1" | while IFS= read -r folder; do
        if [[ -e $folder/config.yaml ]] || compgen -G "$folder/seed*/config.yaml" >/dev/null; then
            printf '%s\n' "$folder"
        else
            printf '%s/\n' "$folder"
        fi
    done
}
_metarl() {
    COMPREPLY=()
    local line=${COMP_LINE:0:COMP_POINT} words=() IFS=$' \t\n'
    local cur= last= value= prefix= found= runs=
    read -r -a words <<<"$line"
    local count=${#words[@]}
    if [[ $line != *[[:space:]] && $count -gt 0 ]]; then
        cur=${words[count - 1]}
        count=$((count - 1))
    fi
    local command=${words[1]:-}
    (( count > 1 )) && last=${words[count - 1]}
    value=$cur
    if (( count < 2 )); then
        found='@COMMANDS@ --help --version'
    elif [[ $cur == --*=* ]]; then
        prefix=${cur%%=*}= last=${cur%%=*} value=${cur#*=}
        _metarl_values "$command" "$last"
    elif [[ $cur == -* ]]; then
        case $command in
@FLAGS@
        esac
    else
        [[ $last == --* ]] && _metarl_values "$command" "$last"
        if [[ -z $found ]]; then
            case $command in
@NAMES@
            esac
            (( count > 2 )) && [[ -z $runs ]] && found=
        fi
    fi
    local IFS=$'\n' word
    found=${found// /$'\n'}
    COMPREPLY=($(compgen -W "$found" -- "$value"))
    [[ -n $runs ]] && COMPREPLY+=($(_metarl_runs "$value"))
    if [[ -z $found$runs ]]; then
        COMPREPLY=($(compgen -f -- "$value"))
        type compopt &>/dev/null && compopt -o filenames 2>/dev/null
    fi
    # bash splits words at : and =, and replaces only what follows the last of them.
    local whole=$prefix$value
    if [[ $COMP_WORDBREAKS == *:* && $whole == *:* ]]; then
        local cut=${value%"${value##*:}"} i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$cut"}; done
    fi
    if (( ${#COMPREPLY[@]} == 1 )) && [[ ${COMPREPLY[0]} == */ ]]; then
        type compopt &>/dev/null && compopt -o nospace 2>/dev/null
    fi
    return 0
}
_metarl_values() {  # sets `found` to the values of flag $2 of command $1
    case "$1 $2" in
@VALUES@
    esac
}
complete -F _metarl metarl"""

ZSH = r"""# Completion of metarl for zsh: eval "$(metarl completion zsh)"
_metarl_runs() {
    local folder
    local -a whole way
    for folder in ${PREFIX}*(N-/); do
        if [[ -e $folder/config.yaml ]] || [[ -n $folder/seed*/config.yaml(#qN[1]) ]]; then
            whole+=($folder)
        else
            way+=($folder/)
        fi
    done
    compadd -- $whole
    compadd -S '' -- $way
}
_metarl() {
    setopt localoptions extendedglob nullglob
    local cur=${words[CURRENT]} last=${words[CURRENT-1]} command=${words[2]} found='' runs=''
    if (( CURRENT == 2 )); then
        found='@COMMANDS@ --help --version'
    elif [[ $cur == --*=* ]]; then
        last=${cur%%=*}
        compset -P '*='
        _metarl_values $command $last
    elif [[ $cur == -* ]]; then
        case $command in
@FLAGS@
        esac
    else
        [[ $last == --* ]] && _metarl_values $command $last
        if [[ -z $found ]]; then
            case $command in
@NAMES@
            esac
            (( CURRENT > 3 )) && [[ -z $runs ]] && found=
        fi
    fi
    compadd -- ${=found}
    [[ -n $runs ]] && _metarl_runs
    [[ -z $found$runs ]] && _files
    return 0
}
_metarl_values() {
    case "$1 $2" in
@VALUES@
    esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _metarl metarl"""


def _filled(script: str, commands: Mapping[str, str], words: Mapping[str, Words]) -> str:
    flags, names, values = [], [], []
    for name, row in words.items():
        flags.append(f"        {name}) found='{' '.join(row.flags)}' ;;")
        runs = " runs=1" if row.takes_runs else ""
        names.append(f"            {name}) found='{' '.join(row.names)}'{runs} ;;")
        for flag, choices in row.values.items():
            values.append(f"        '{name} {flag}') found='{' '.join(choices)}' ;;")
    for mark, text in (
        ("@COMMANDS@", " ".join(commands)),
        ("@FLAGS@", "\n".join(flags)),
        ("@NAMES@", "\n".join(names)),
        ("@VALUES@", "\n".join(values)),
    ):
        script = script.replace(mark, text)
    return script


def bash(commands: Mapping[str, str], words: Mapping[str, Words]) -> str:
    """Returns the script for bash."""
    return _filled(BASH, commands, words)


def zsh(commands: Mapping[str, str], words: Mapping[str, Words]) -> str:
    """Returns the script for zsh."""
    return _filled(ZSH, commands, words)


def fish(commands: Mapping[str, str], words: Mapping[str, Words]) -> str:
    """Returns the script for fish."""
    lines = ["# Completion of metarl for fish: metarl completion fish | source", *_FISH]
    for name, summary in commands.items():
        about = summary.replace("'", "\\'")
        lines.append(f"complete -c metarl -n __fish_use_subcommand -a {name} -d '{about}'")
    for name, row in words.items():
        here = f"complete -c metarl -n '__fish_seen_subcommand_from {name}'"
        for flag in row.flags:
            choices = row.values.get(flag)
            given = f" -x -a '{' '.join(choices)}'" if choices else ""
            given = " -r -F" if flag in TAKE_FILES else given
            lines.append(f"{here} -l {flag.removeprefix('--')}{given}")
        if row.names:
            lines.append(f"{here} -a '{' '.join(row.names)}'")
        if row.takes_runs:
            lines.append(f"{here} -a '(__metarl_runs)'")
    return "\n".join(lines)


TAKE_FILES = ("--config", "--from", "--out", "--against", "--run-dir", "--task-file", "--env.path")
"""Flags of which fish is told that a file may follow; the others offer files by themselves."""
_FISH: Sequence[str] = (
    "complete -c metarl -f",
    "function __metarl_runs",
    "    for folder in (commandline -ct)*/",
    "        if test -e $folder/config.yaml; or count $folder/seed*/config.yaml >/dev/null",
    "            string trim -r -c / -- $folder",
    "        else",
    "            echo $folder",
    "        end",
    "    end",
    "end",
)

SCRIPTS: Mapping[str, Callable[[Mapping[str, str], Mapping[str, Words]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}
