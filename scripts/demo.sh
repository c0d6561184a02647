#!/bin/sh
# The demonstration behind `make demo`: a cluster on this machine, a replicated service, an answer over HTTPS.
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

printf '\n# The same group from Python: one request to its URL, over HTTPS.\n'
cat <<'PYTHON'
>>> from chalkcompute import ScalingGroup
>>> response = ScalingGroup.from_name("hello").call("/", method="GET")
PYTHON
python - <<'PYTHON'
from chalkcompute import ScalingGroup

response = ScalingGroup.from_name("hello").call("/", method="GET")
print(response.url)
print(response.status_code, response.reason_phrase)
print(*response.text.splitlines()[:12], "…", sep="\n")
response.raise_for_status()
PYTHON

cat <<'END'
That was two replicas of a service on a cluster on this machine, behind one HTTPS URL. To go on:

  . .venv/bin/activate
  export CHALK_KUBECONFIG="$(chalk local kubeconfig)"
  chalk scaling-group get hello                  # spec, replicas, URL
  KUBECONFIG="$CHALK_KUBECONFIG" kubectl get pods # it is plain Kubernetes, if you have kubectl
  chalk scaling-group delete hello
  chalk local down                               # stop the cluster; `chalk local reset` also removes its files
END
