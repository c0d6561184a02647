#!/bin/sh
# The demonstration behind `make demo`: a cluster on this machine, a replicated service, an answer over HTTPS;
# then one whose image is a description in Python.
# Every line that starts with `$` is a command you can type yourself.
set -eu

cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

run() {
    printf '\n$ %s\n' "$1"
    eval "$1"
}

# Whatever your own settings say, the demonstration stays on this machine and looks as it should. What chooses
# the local cluster's folder, ports and sandbox is yours to say, here too.
for variable in $(env | sed -n 's/^\(CHALK_[A-Za-z0-9_]*\)=.*/\1/p'); do
    case $variable in
        CHALK_LOCAL_HOME | CHALK_LOCAL_UP_*_PORT | CHALK_LOCAL_UP_SANDBOX) ;;
        *) unset "$variable" ;;
    esac
done
export CHALK_ENV_FILE=/dev/null # no .env either

run 'chalk local up'
run 'export CHALK_KUBECONFIG="$(chalk local kubeconfig)"'

run 'chalk scaling-group create --image=python:3.12 --name=hello --port=8000 --replicas=2 \
    --entrypoint="python,-m,http.server,8000"'

run 'chalk scaling-group list'

ask() { # GROUP PATH LINES: the same group from Python, one request to its URL
    cat <<PYTHON
>>> from chalkcompute import ScalingGroup
>>> response = ScalingGroup.from_name("$1").call("$2", method="GET")
PYTHON
    python - "$@" <<'PYTHON'
import sys

from chalkcompute import ScalingGroup

name, path, most = sys.argv[1:]
response = ScalingGroup.from_name(name).call(path, method="GET")
print(response.url)
print(response.status_code, response.reason_phrase)
lines = response.text.splitlines()
print(*lines[: int(most)], *(["…"] if len(lines) > int(most) else []), sep="\n")
response.raise_for_status()
PYTHON
}

printf '\n# The same group from Python: one request to its URL, over HTTPS.\n'
ask hello / 12

printf '\n# Another group. Its image is a description in a Python file: a base, flask, and the app.py beside it.\n'
printf '# flask becomes a layer, pushed to the registry of the cluster, without Docker; app.py stays out of the image.\n'
run "sed -n '/^image = (/,/^)/p' examples/hello/service.py"
run 'chalk scaling-group create --image=examples/hello/service.py:image --name=hello-flask'
printf '\n'
ask hello-flask /health 1

printf '\n# The same description again: nothing is built, pushed or restarted.\n'
run 'chalk scaling-group create --image=examples/hello/service.py:image --name=hello-flask -o name'
run 'chalk scaling-group delete hello-flask'

cat <<'END'

That was a cluster on this machine, with two replicas of a service behind one HTTPS URL, and a second service whose
image was described, built, run and removed again. To go on with the first:

  . .venv/bin/activate
  export CHALK_KUBECONFIG="$(chalk local kubeconfig)"
  chalk scaling-group get hello                  # spec, replicas, URL
  KUBECONFIG="$CHALK_KUBECONFIG" kubectl get pods # it is plain Kubernetes, if you have kubectl
  chalk scaling-group delete hello
  chalk local down                               # stop the cluster; `chalk local reset` also removes its files
END
