# Completion of visitctl for bash. shellcheck shell=bash

_visitctl() {
  local current=$2 previous=$3 word command=
  COMPREPLY=()
  case $previous in
    --config | --map | --pages | --save)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --instance)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      return
      ;;
    --from)
      if [[ " ${COMP_WORDS[*]} " == *' import '* ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'csv jsonl goatcounter umami access-log original busuanzi vercount' -- "$current")
        return
      fi
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --to)
      mapfile -t COMPREPLY < <(compgen -W 'cluster shards' -- "$current")
      return
      ;;
    --sort)
      mapfile -t COMPREPLY < <(compgen -W 'count name' -- "$current")
      return
      ;;
    --format)
      mapfile -t COMPREPLY < <(compgen -W 'csv jsonl' -- "$current")
      return
      ;;
    --prefix | --match | --limit | --lane | --timeout | --measure | --rate | --url | --page) return ;;
  esac
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      status | check | lanes | peek | page | rules | refusals | pages | top | total | export | embed | shards | migrate | writers | ipcs | clean | remove | flush | accept | set | add | delete | rename | merge | import | corrections | hold-namespaces | help)
        command=${command:-$word}
        ;;
    esac
  done
  local options='--config --json --help' commands=
  case $command in
    '')
      options+=' --check-config --help-settings --version'
      commands='status check lanes peek page rules refusals pages top total export embed shards migrate writers ipcs clean remove flush accept set add delete rename merge import corrections hold-namespaces help'
      ;;
    status) options+=' --exit-code --measure' ;;
    check) commands='frontend flusher' ;;
    peek) options+=' --limit --lane' ;;
    page) options+=' --exact' ;;
    refusals) options+=' --measure' ;;
    pages) options+=' --prefix --match --sort --limit' ;;
    top) options+=' --limit' ;;
    total) options+=' --prefix' ;;
    export) options+=' --format' ;;
    embed) options+=' --url --page --count --total --pin --bfcache --frames --respect' ;;
    shards)
      options+=' --dry-run --rate --no-wait --wait --exact'
      commands='list locate add remove replace rebalance moves'
      ;;
    migrate) options+=' --to --dry-run --yes --rate --no-wait' ;;
    writers)
      options+=' --yes'
      commands='forget'
      ;;
    ipcs) options+=' --all' ;;
    remove) options+=' --instance --state --discard-visits --yes' ;;
    flush) options+=' --timeout' ;;
    accept) options+=' --yes' ;;
    set | delete) options+=' --from --match --dry-run --yes --timeout' ;;
    add) options+=' --from --match --dry-run --timeout' ;;
    rename | merge) options+=' --match --dry-run --yes --timeout' ;;
    import) options+=' --from --map --site --pages --prefix --with-host --site-totals --save --overwrite --dry-run --skip-bad --yes --timeout' ;;
    corrections) options+=' --limit' ;;
    help) commands='status check lanes peek page rules refusals pages top total export embed shards migrate writers ipcs clean remove flush accept set add delete rename merge import corrections hold-namespaces' ;;
  esac
  if [[ $current == -* ]]; then commands=; else options=; fi
  mapfile -t COMPREPLY < <(compgen -W "$options $commands" -- "$current")
}

complete -F _visitctl visitctl
