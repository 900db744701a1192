{{- define "ecr-pull-secrets.credentialsKeys" -}}
{{- with .Values.aws.credentialsKeys -}}
AWS_ACCESS_KEY_ID: {{ .accessKeyId | quote }}
AWS_SECRET_ACCESS_KEY: {{ .secretAccessKey | quote }}
AWS_SESSION_TOKEN: {{ .sessionToken | quote }}
{{- end }}
{{- end }}

{{- /* The variables that the chart sets. */}}
{{- define "ecr-pull-secrets.ownEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with .Values.aws.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if .Values.aws.credentialsSecret }}
{{- range $name, $key := include "ecr-pull-secrets.credentialsKeys" . | fromYaml }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.aws.credentialsSecret }}, key: {{ $key }}, optional: {{ eq $name "AWS_SESSION_TOKEN" }}}}
{{- end }}
{{- end }}
{{- with .Values.aws.webIdentity.roleArn }}
- name: AWS_ROLE_ARN
  value: {{ . | quote }}
- name: AWS_WEB_IDENTITY_TOKEN_FILE
  value: /var/run/secrets/ecr-pull-secrets.dev/aws/token
{{- end }}
{{- end }}

{{- /* The API server rejects a variable that is set twice, so those of extraEnv replace those of the chart. */}}
{{- define "ecr-pull-secrets.env" -}}
{{- $extra := default (list) .Values.extraEnv }}
{{- $names := list }}
{{- range $extra }}{{- $names = append $names .name }}{{- end }}
{{- $env := list }}
{{- range include "ecr-pull-secrets.ownEnv" . | fromYamlArray }}
{{- if not (has .name $names) }}{{- $env = append $env . }}{{- end }}
{{- end }}
{{- toYaml (concat $env $extra) }}
{{- end }}

{{- /* The spec of the controller's pods, without podSpecExtra. */}}
{{- define "ecr-pull-secrets.podSpec" -}}
{{- $selected := include "ecr-pull-secrets.selectorLabels" . | fromYaml -}}
serviceAccountName: {{ include "ecr-pull-secrets.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{ include "ecr-pull-secrets.podBasics" . | trim }}
affinity:
  {{- if .Values.affinity }}
  {{- toYaml .Values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "ecr-pull-secrets.selectorLabels" . | nindent 14 }}
  {{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" (dict "matchLabels" $selected)) .)) | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- with .Values.extraInitContainers }}
initContainers:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
containers:
  - name: controller
    image: {{ include "ecr-pull-secrets.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - controller
      - --config=/etc/ecr-pull-secrets/config.yaml
      - --listen=[::]:{{ .Values.port }}
      - --leader-election=true
      - --log-format={{ .Values.log.format }}
      - --log-level={{ .Values.log.level }}
      {{- with .Values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      {{- include "ecr-pull-secrets.env" . | nindent 6 }}
    ports:
      - name: http
        containerPort: {{ .Values.port }}
    {{- with .Values.livenessProbe }}
    livenessProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.readinessProbe }}
    readinessProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: config
        mountPath: /etc/ecr-pull-secrets
        readOnly: true
      {{- if .Values.aws.webIdentity.roleArn }}
      - name: aws-token
        mountPath: /var/run/secrets/ecr-pull-secrets.dev/aws
        readOnly: true
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "ecr-pull-secrets.configMap" . }}}
  {{- with .Values.aws.webIdentity }}
  {{- if .roleArn }}
  - name: aws-token
    projected:
      sources:
        - serviceAccountToken:
            path: token
            audience: {{ .audience }}
            expirationSeconds: {{ .expirationSeconds }}
  {{- end }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
