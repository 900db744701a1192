module ecr-pull-secrets.dev/tests/tools/node/pause

go 1.26.0
