{{- define "ecr-pull-secrets.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ecr-pull-secrets.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else if contains (include "ecr-pull-secrets.name" .) .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "ecr-pull-secrets.name" .) | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "ecr-pull-secrets.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "ecr-pull-secrets.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ecr-pull-secrets.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The labels of an object, of which those that the Deployment and the Services select cannot be overridden. The
arguments are the context and the object's own labels. */}}
{{- define "ecr-pull-secrets.labels" -}}
{{- $root := index . 0 }}
{{- $standard := dict "app.kubernetes.io/version" (toString $root.Chart.AppVersion) "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- $selected := include "ecr-pull-secrets.selectorLabels" $root | fromYaml }}
{{- toYaml (mergeOverwrite $standard (deepCopy (default (dict) $root.Values.commonLabels)) (deepCopy (index . 1)) $selected) }}
{{- end }}

{{- /* The metadata of an object. `root` is the context; `name`, and the optional `clusterScoped`, `namespace`, `labels` and
`annotations` are those of the object. */}}
{{- define "ecr-pull-secrets.metadata" -}}
name: {{ .name }}
{{- if not .clusterScoped }}
namespace: {{ default (include "ecr-pull-secrets.namespace" .root) .namespace }}
{{- end }}
labels:
  {{- include "ecr-pull-secrets.labels" (list .root (default (dict) .labels)) | nindent 2 }}
{{- with mergeOverwrite (deepCopy (default (dict) .root.Values.commonAnnotations)) (deepCopy (default (dict) .annotations)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ecr-pull-secrets.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ecr-pull-secrets.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name an existing service account, or set serviceAccount.create=true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* `localhost` is the registry in the name that `make image` gives the image. */}}
{{- define "ecr-pull-secrets.image" -}}
{{- $repository := .Values.image.repository }}
{{- with default (default (dict) .Values.global).imageRegistry .Values.image.registry }}
{{- $repository = printf "%s/%s" . (trimPrefix "localhost/" $repository) }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Name of the installation. Its Lease has this name, and its secrets have it as a label. */}}
{{- define "ecr-pull-secrets.instance" -}}
{{- default .Release.Name .Values.config.instance }}
{{- end }}

{{- /* The ConfigMap with the configuration file. */}}
{{- define "ecr-pull-secrets.configMap" -}}
{{- default (include "ecr-pull-secrets.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- define "ecr-pull-secrets.config" -}}
{{- toYaml (merge (dict "instance" (include "ecr-pull-secrets.instance" .)) .Values.config) }}
{{- end }}

{{- define "ecr-pull-secrets.secretNames" -}}
{{- default (list "ecr-pull") .Values.config.secretNames | toJson }}
{{- end }}

{{- define "ecr-pull-secrets.retiredSecretNames" -}}
{{- default (list) .Values.config.retiredSecretNames | toJson }}
{{- end }}

{{- /* The namespaces of single-namespace mode. */}}
{{- define "ecr-pull-secrets.only" -}}
{{- default (list) (default (dict) .Values.config.namespaces).only | toJson }}
{{- end }}

{{- define "ecr-pull-secrets.writesServiceAccounts" -}}
{{- if (default (dict) .Values.config.serviceAccounts).enabled }}true{{ end }}
{{- end }}

{{- /* Only `false` and single-namespace mode disable it. `helm template` does not know the API server, and every version that `kubeVersion` allows
serves the policy. */}}
{{- define "ecr-pull-secrets.hasAdmissionPolicy" -}}
{{- if and (ne (toString .Values.admissionPolicy.enabled) "false") (not (include "ecr-pull-secrets.only" . | fromJsonArray)) }}true{{ end }}
{{- end }}

{{- /* OpenShift assigns each namespace its own user and group IDs, and refuses others. */}}
{{- define "ecr-pull-secrets.podSecurityContext" -}}
{{- $context := deepCopy (default (dict) .Values.podSecurityContext) }}
{{- $mode := dig "compatibility" "openshift" "adaptSecurityContext" "auto" (default (dict) .Values.global) }}
{{- if or (eq $mode "force") (and (eq $mode "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{- /* Pod fields of the controller, of the cleanup job and of the test. */}}
{{- define "ecr-pull-secrets.podBasics" -}}
{{- with concat .Values.imagePullSecrets (default (list) (default (dict) .Values.global).imagePullSecrets) }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- if .Values.hostNetwork }}
hostNetwork: true
{{- end }}
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
enableServiceLinks: {{ .Values.enableServiceLinks }}
{{- with default (.Values.hostNetwork | ternary "ClusterFirstWithHostNet" "") .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "ecr-pull-secrets.podSecurityContext" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Annotations of the objects that only exist for the cleanup after an uninstall. The argument is the weight. */}}
{{- define "ecr-pull-secrets.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ quote . }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- /* Of those that give the cleanup its permissions, which must not outlive a cleanup that fails. The job remains, because
its log shows the reason. */}}
{{- define "ecr-pull-secrets.hookPermissions" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ quote . }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}
