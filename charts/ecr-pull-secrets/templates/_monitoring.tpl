{{- /* Whether to render an object of the Prometheus Operator. The arguments are the context, the name of the value, and the
kind. */}}
{{- define "ecr-pull-secrets.rendersMonitoring" -}}
{{- $root := index . 0 }}{{ $value := index . 1 }}{{ $kind := index . 2 }}
{{- $settings := index $root.Values $value }}
{{- $exists := $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind) }}
{{- if not $settings.enabled }}
{{- else if or $exists (eq $settings.renderMode "alwaysRender") }}true
{{- else if eq $settings.renderMode "failIfMissing" }}
{{- fail (printf "%s.enabled: the cluster does not serve the kind %s: install the Prometheus Operator first, or set %s.renderMode to skipIfMissing" $value $kind $value) }}
{{- end }}
{{- end }}

{{- /* The endpoint of a ServiceMonitor or PodMonitor. The argument is its value. */}}
{{- define "ecr-pull-secrets.endpoint" -}}
{{- $endpoint := dict "port" "http" "path" "/metrics" }}
{{- range $key := list "interval" "scrapeTimeout" "honorLabels" "relabelings" "metricRelabelings" }}
{{- with index $ $key }}{{- $_ := set $endpoint $key . }}{{- end }}
{{- end }}
{{- toYaml (mergeOverwrite $endpoint (deepCopy .endpointAdditionalProperties)) }}
{{- end }}

{{- /* The labels of the series of this installation, as matchers of PromQL. */}}
{{- define "ecr-pull-secrets.matchers" -}}
{{- default (printf "namespace=%q,job=%q" (include "ecr-pull-secrets.namespace" .) (include "ecr-pull-secrets.name" .)) .Values.prometheusRule.matchers }}
{{- end }}

{{- /* The rules of files/rules.yaml for this installation. */}}
{{- define "ecr-pull-secrets.alertRules" -}}
{{- $matchers := include "ecr-pull-secrets.matchers" . | replace "$" "$$" }}
{{- $settings := .Values.prometheusRule }}
{{- $rules := list }}
{{- range (index (.Files.Get "files/rules.yaml" | fromYaml).groups 0).rules }}
{{- if not (has .alert $settings.disabled) }}
{{- $expr := regexReplaceAll "(ecr_pull_secrets_[a-z_]+)\\{" .expr (printf "${1}{%s," $matchers) }}
{{- $expr = regexReplaceAll "(ecr_pull_secrets_[a-z_]+)([^a-z_{]|$)" $expr (printf "${1}{%s}${2}" $matchers) }}
{{- if eq .alert "EcrPullSecretsExpireSoon" }}
{{- $expr = replace "10800" (toString $settings.expiresSoonSeconds) $expr }}
{{- end }}
{{- $labels := mergeOverwrite (deepCopy .labels) (deepCopy $settings.alertLabels) }}
{{- $runbook := printf "%s%s" $settings.runbookBaseUrl .annotations.runbook_url }}
{{- $rules = append $rules (mergeOverwrite . (dict "expr" $expr "labels" $labels "annotations" (dict "runbook_url" $runbook))) }}
{{- end }}
{{- end }}
{{- toYaml (concat $rules $settings.additionalRules) }}
{{- end }}
