# fish completion of lmstrix.
function __lmstrix_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (command lmstrix __complete $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            # fish compares with the whole word, so a path keeps the --option= in front of it.
            set -l option (string match -r '^--[^=]*=' -- $words[-1])
            __fish_complete_path (string replace -r '^--[^=]*=' '' -- $words[-1]) | string replace -r '^' -- "$option"
        else
            echo $line
        end
    end
end
complete -c lmstrix -f -a '(__lmstrix_complete)'
