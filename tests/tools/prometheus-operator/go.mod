// The kinds of the Prometheus Operator, as CustomResourceDefinitions.
module ecr-pull-secrets.dev/tests/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
