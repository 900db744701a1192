{{- /* A CEL expression that matches the namespace's name with a pattern: a name, or a prefix that ends in `*`. */}}
{{- define "ecr-pull-secrets.celPattern" -}}
{{- if hasSuffix "*" . }}namespaceObject.metadata.name.startsWith({{ trimSuffix "*" . | quote }})
{{- else }}namespaceObject.metadata.name == {{ quote . }}
{{- end }}
{{- end }}

{{- define "ecr-pull-secrets.celPatterns" -}}
{{- $all := list "false" }}
{{- range . }}{{- $all = append $all (printf "(%s)" (include "ecr-pull-secrets.celPattern" .)) }}{{- end }}
{{- join " || " $all }}
{{- end }}

{{- /* A CEL expression that matches `key` with patterns: a key, or a prefix that ends in `*`. */}}
{{- define "ecr-pull-secrets.celKeyPatterns" -}}
{{- $all := list "false" }}
{{- range . }}
{{- $all = append $all (hasSuffix "*" . | ternary (printf "key.startsWith(%s)" (trimSuffix "*" . | quote)) (printf "key == %s" (quote .))) }}
{{- end }}
{{- join " || " $all }}
{{- end }}

{{- define "ecr-pull-secrets.celStrings" -}}
[{{- range $place, $text := . }}{{ if $place }}, {{ end }}{{ quote $text }}{{ end }}]
{{- end }}

{{- /* A map of strings as a CEL expression. */}}
{{- define "ecr-pull-secrets.celMap" -}}
{{- $all := list }}
{{- range $key, $value := . }}{{- $all = append $all (printf "%s: %s" (quote $key) (toString $value | quote)) }}{{- end -}}
{ {{- join ", " $all -}} }
{{- end }}

{{- /* A label selector as a CEL expression on variables.labels. An empty selector selects no namespace. */}}
{{- define "ecr-pull-secrets.celSelector" -}}
{{- $all := list }}
{{- range $key, $value := .matchLabels }}
{{- $all = append $all (printf "variables.labels[?%s].orValue('') == %s && %s in variables.labels" (quote $key) (quote $value) (quote $key)) }}
{{- end }}
{{- range .matchExpressions }}
{{- $key := quote .key }}
{{- if eq .operator "In" }}
{{- $all = append $all (printf "%s in variables.labels && variables.labels[%s] in %s" $key $key (include "ecr-pull-secrets.celStrings" .values)) }}
{{- else if eq .operator "NotIn" }}
{{- $all = append $all (printf "!(%s in variables.labels && variables.labels[%s] in %s)" $key $key (include "ecr-pull-secrets.celStrings" .values)) }}
{{- else if eq .operator "Exists" }}
{{- $all = append $all (printf "%s in variables.labels" $key) }}
{{- else if eq .operator "DoesNotExist" }}
{{- $all = append $all (printf "!(%s in variables.labels)" $key) }}
{{- end }}
{{- end }}
{{- if $all }}({{ join ") && (" $all }}){{ else }}false{{ end }}
{{- end }}

{{- /* A CEL expression: whether `namespaces` in the configuration includes the namespace. */}}
{{- define "ecr-pull-secrets.celIncluded" -}}
{{- $namespaces := default (dict) .Values.config.namespaces }}
{{- $kube := list }}
{{- range $namespaces.include }}{{- if hasPrefix "kube-" . }}{{- $kube = append $kube . }}{{- end }}{{- end -}}
!({{ include "ecr-pull-secrets.celPatterns" $namespaces.exclude }}) &&
(namespaceObject.metadata.name.startsWith('kube-')
  ? ({{ include "ecr-pull-secrets.celPatterns" $kube }})
  : ({{ include "ecr-pull-secrets.celPatterns" $namespaces.include }} || ({{ include "ecr-pull-secrets.celSelector" (default (dict) $namespaces.selector) }})))
{{- end }}

{{- /* The CEL variable `optedIn`: whether the namespace opted in, by the controller's own rule. It is preceded by those that it
uses. */}}
{{- define "ecr-pull-secrets.celOptIn" -}}
- name: key
  expression: "'ecr-pull-secrets.dev/registries'"
- name: annotations
  expression: "has(namespaceObject.metadata.annotations) ? namespaceObject.metadata.annotations : {}"
- name: labels
  expression: "has(namespaceObject.metadata.labels) ? namespaceObject.metadata.labels : {}"
- name: included
  expression: |
    {{- include "ecr-pull-secrets.celIncluded" . | nindent 4 }}
- name: optedIn
  expression: >-
    variables.key in variables.annotations
    ? variables.annotations[variables.key].trim() != 'none'
    : variables.included
{{- end }}
