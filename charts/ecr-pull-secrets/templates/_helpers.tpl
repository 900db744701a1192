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

{{- define "ecr-pull-secrets.labels" -}}
{{ include "ecr-pull-secrets.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ecr-pull-secrets.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ecr-pull-secrets.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name an existing service account, or set serviceAccount.create=true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "ecr-pull-secrets.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Name of the installation. Its Lease has this name, and its secrets have it as a label. */}}
{{- define "ecr-pull-secrets.instance" -}}
{{- default .Release.Name .Values.config.instance }}
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

{{- define "ecr-pull-secrets.writesServiceAccounts" -}}
{{- if (default (dict) .Values.config.serviceAccounts).enabled }}true{{ end }}
{{- end }}

{{- /* Only `false` disables it. `helm template` does not know the API server, and every version that `kubeVersion` allows
serves the policy. */}}
{{- define "ecr-pull-secrets.hasAdmissionPolicy" -}}
{{- if ne (toString .Values.admissionPolicy.enabled) "false" }}true{{ end }}
{{- end }}

{{- /* Pod fields of the controller, of the cleanup job and of the test. */}}
{{- define "ecr-pull-secrets.podBasics" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .Values.hostNetwork }}
hostNetwork: true
{{- end }}
{{- with default (.Values.hostNetwork | ternary "ClusterFirstWithHostNet" "") .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Annotations of the objects that only exist for the cleanup after an uninstall. */}}
{{- define "ecr-pull-secrets.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- /* Of those that give the cleanup its permissions, which must not outlive a cleanup that fails. The job remains, because
its log shows the reason. */}}
{{- define "ecr-pull-secrets.hookPermissions" -}}
helm.sh/hook: post-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}
