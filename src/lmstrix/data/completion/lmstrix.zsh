#compdef lmstrix
# zsh completion of lmstrix; compinit has to be called before.
_lmstrix() {
    local line files=0
    local -a found
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            files=1
        else
            # _describe parts a word from its text at the first colon that has no backslash.
            found+=("${${line%%$'\t'*}//:/\\:}${${(M)line#*$'\t'}:+:${line#*$'\t'}}")
        fi
    done < <(command lmstrix __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( ${#found} )) && _describe -V lmstrix found
    if (( files )); then
        compset -P '*='
        _files
    fi
}
if [[ $funcstack[1] == _lmstrix ]]; then
    _lmstrix "$@"
else
    compdef _lmstrix lmstrix
fi
