# bash completion of lmstrix; understood by bash 3.2 too, which macOS has.
_lmstrix() {
    local line="${COMP_LINE:0:COMP_POINT}" words current head candidate IFS=$' \t\n'
    COMPREPLY=()
    # Not COMP_WORDS: bash cuts words at = : and @, which options and names of models have.
    read -r -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]} - 1]}"
    # What bash has cut off in front of the word it replaces must not be there twice.
    head="${current%"${current##*[=:@]}"}"
    while IFS= read -r candidate; do
        candidate="${candidate%%$'\t'*}"
        if [[ $candidate == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done < <(compgen -f -- "${current##*=}")
        else
            COMPREPLY+=("${candidate#"$head"}")
        fi
    done < <(command lmstrix __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _lmstrix lmstrix
