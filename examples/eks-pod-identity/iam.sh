#!/usr/bin/env bash
# One account, no identities: creates a role that may pull everything, and associates it with the controller's service account.
# For roles in several accounts: docs/start-eks.md. Not tried against AWS.
#
#     CLUSTER=NAME ./iam.sh
set -euo pipefail

: "${CLUSTER:?set CLUSTER to the name of the EKS cluster}"
account=$(aws sts get-caller-identity --query Account --output text)

aws iam create-role --role-name ecr-pull-secrets --assume-role-policy-document '{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Principal": {"Service": "pods.eks.amazonaws.com"},
    "Action": ["sts:AssumeRole", "sts:TagSession"]
  }]
}'
# AWS's own policy that only allows pulls.
aws iam attach-role-policy --role-name ecr-pull-secrets \
  --policy-arn arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly
aws eks create-addon --cluster-name "$CLUSTER" --addon-name eks-pod-identity-agent || true # It may exist.
aws eks create-pod-identity-association --cluster-name "$CLUSTER" \
  --namespace ecr-pull-secrets --service-account ecr-pull-secrets \
  --role-arn "arn:aws:iam::$account:role/ecr-pull-secrets"
