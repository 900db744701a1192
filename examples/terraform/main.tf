# The controller on EKS with Pod Identity: its role, the role that pulls, the association, and the release. Not tried
# against AWS; a test only parses it.
#
# Configure the providers `aws` and `helm` (`kubernetes = {…}`), and install the add-on `eks-pod-identity-agent`. Until the
# chart is published: chart = "../../charts/ecr-pull-secrets" without `repository` and `version`, and `image.repository`.
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws  = { source = "hashicorp/aws", version = ">= 5.30" }
    helm = { source = "hashicorp/helm", version = ">= 3.0" }
  }
}

variable "cluster_name" { type = string }
variable "region" { type = string }

data "aws_caller_identity" "current" {}

# The controller's own role: it can assume the role that pulls, and nothing else.
resource "aws_iam_role" "controller" {
  name = "ecr-pull-secrets"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy" "controller" {
  role = aws_iam_role.controller.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["sts:AssumeRole", "sts:TagSession"]
      Resource = aws_iam_role.pull.arn
    }]
  })
}

resource "aws_iam_role" "pull" {
  name = "ecr-pull"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.controller.arn }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy" "pull" {
  role = aws_iam_role.pull.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "ecr:GetAuthorizationToken", Resource = "*" },
      {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = "arn:aws:ecr:*:${data.aws_caller_identity.current.account_id}:repository/*"
      },
    ]
  })
}

resource "aws_eks_pod_identity_association" "controller" {
  cluster_name    = var.cluster_name
  namespace       = "ecr-pull-secrets"
  service_account = "ecr-pull-secrets"
  role_arn        = aws_iam_role.controller.arn
}

resource "helm_release" "controller" {
  name             = "ecr-pull-secrets"
  namespace        = "ecr-pull-secrets"
  create_namespace = true
  repository       = "oci://ghcr.io/OWNER/charts"
  chart            = "ecr-pull-secrets"
  version          = "0.1.0"

  values = [yamlencode({
    aws = { region = var.region }
    config = {
      defaults = { identity = "none" }
      identities = [{
        name         = "pull"
        roleArn      = aws_iam_role.pull.arn
        namespaces   = ["*"]
        registries   = ["${data.aws_caller_identity.current.account_id}/*"]
        repositories = ["{namespace}/*"]
      }]
    }
  })]

  depends_on = [aws_eks_pod_identity_association.controller]
}
