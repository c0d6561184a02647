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

run 'chalk local up'

# Whatever cluster your own settings name, the demonstration stays on this machine.
unset CHALK_CONTEXT CHALK_NAMESPACE CHALK_ENVIRONMENT CHALK_GATEWAY CHALK_GATEWAY_DOMAIN CHALK_OUTPUT
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
