{{- /* The rules on the objects of the namespaces, for a ClusterRole or a Role. */}}
{{- define "ecr-pull-secrets.rules" -}}
# Only secrets with these names, in every namespace. list and watch are authorized by name because they have the field
# selector metadata.name. A server-side apply that creates the secret is authorized as create, with the name.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ include "ecr-pull-secrets.secretNames" . }}
  verbs: [get, list, watch, create, patch, delete]
{{- with include "ecr-pull-secrets.retiredSecretNames" . | fromJsonArray }}
# Former names: the controller only deletes these secrets.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get, list, watch, delete]
{{- end }}
# To report actions and failures in the namespace. patch: to increase the count of a repeated Event.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- if include "ecr-pull-secrets.writesServiceAccounts" . }}
# config.serviceAccounts.enabled. RBAC cannot restrict the fields that change; the admission policy does.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, patch]
{{- end }}
{{- end }}

{{- /* The rules of the cleanup on the objects of the namespaces. */}}
{{- define "ecr-pull-secrets.cleanupRules" -}}
# To list and delete the secrets of this instance.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ concat (include "ecr-pull-secrets.secretNames" . | fromJsonArray) (include "ecr-pull-secrets.retiredSecretNames" . | fromJsonArray) | toJson }}
  verbs: [list, delete]
{{- if include "ecr-pull-secrets.writesServiceAccounts" . }}
# To remove the references from service accounts.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, patch]
{{- end }}
{{- end }}

{{- /* The CEL variables `ownEntries` and `owned`: whether the secret belongs to the instance. They require `creates`. */}}
{{- define "ecr-pull-secrets.celOwned" -}}
- name: ownEntries
  expression: >-
    variables.creates ? [] : oldObject.metadata.?managedFields.orValue([])
    .filter(entry, entry.?manager.orValue('') == 'ecr-pull-secrets' && entry.?operation.orValue('') == 'Apply')
# Without the labels, the Apply entry identifies the secret, so that the controller can restore the labels.
- name: owned
  expression: >-
    (has(oldObject.metadata.labels)
    && oldObject.metadata.labels[?'app.kubernetes.io/managed-by'].orValue('') == 'ecr-pull-secrets'
    && oldObject.metadata.labels[?'ecr-pull-secrets.dev/instance'].orValue('') == {{ include "ecr-pull-secrets.instance" . | squote }})
    || (has(oldObject.metadata.annotations)
    && oldObject.metadata.annotations[?'ecr-pull-secrets.dev/applied'].orValue('').contains({{ printf "\"instance\":%q" (include "ecr-pull-secrets.instance" .) | squote }})
    && variables.ownEntries.size() > 0)
{{- end }}

{{- /* Whether a rule of config.adopt matches the name and the labels of the secret. Requires `labelsBefore`. */}}
{{- define "ecr-pull-secrets.celAdoptable" -}}
{{- $rules := list "false" }}
{{- range .Values.config.adopt }}
{{- $parts := list (printf "oldObject.metadata.name == %s" (quote .name)) }}
{{- range $key, $value := .labels }}
{{- $parts = append $parts (printf "%s in variables.labelsBefore && variables.labelsBefore[%s] == %s" (quote $key) (quote $key) (toString $value | quote)) }}
{{- end }}
{{- $rules = append $rules (printf "(%s)" (join " && " $parts)) }}
{{- end }}
{{- join " || " $rules }}
{{- end }}

{{- /* The spec of the policy for service accounts; the arguments are the context and a list of users. */}}
{{- define "ecr-pull-secrets.serviceAccountsPolicy" -}}
{{- $own := include "ecr-pull-secrets.celStrings" (concat (include "ecr-pull-secrets.secretNames" (index . 0) | fromJsonArray) (include "ecr-pull-secrets.retiredSecretNames" (index . 0) | fromJsonArray))  -}}
failurePolicy: Fail
matchConstraints:
  resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      resources: [serviceaccounts]
      operations: [CREATE, UPDATE, DELETE]
      scope: "*" # the default, which the API server would add to this list
matchConditions:
  - name: own-service-account
    expression: request.userInfo.username in {{ include "ecr-pull-secrets.celStrings" (index . 1) }}
variables:
  - name: key
    expression: "'ecr-pull-secrets.dev/attached'"
  - name: before
    expression: "has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {}"
  - name: after
    expression: "has(object.metadata.annotations) ? object.metadata.annotations : {}"
  - name: changed
    expression: >-
      variables.after.filter(key, key != variables.key && variables.before[?key].orValue(null) != variables.after[key])
      + variables.before.filter(key, key != variables.key && !(key in variables.after))
  - name: referencesBefore
    expression: "has(oldObject.imagePullSecrets) ? oldObject.imagePullSecrets : []"
  - name: referencesAfter
    expression: "has(object.imagePullSecrets) ? object.imagePullSecrets : []"
validations:
  - expression: request.operation == 'UPDATE'
    message: the controller may neither create nor delete service accounts
    reason: Forbidden
  - expression: >-
      request.operation != 'UPDATE' || variables.changed.size() == 0
    messageExpression: >-
      'of the annotations, the controller may only change ecr-pull-secrets.dev/attached: not ' + variables.changed[0]
    message: of the annotations, the controller may only change ecr-pull-secrets.dev/attached
    reason: Forbidden
  - expression: >-
      request.operation != 'UPDATE' || (
      object.metadata.?labels == oldObject.metadata.?labels
      && object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
      && object.metadata.?finalizers == oldObject.metadata.?finalizers
      && object.?secrets == oldObject.?secrets
      && object.?automountServiceAccountToken == oldObject.?automountServiceAccountToken)
    message: of a service account, the controller may only change imagePullSecrets
    reason: Forbidden
  - expression: >-
      request.operation != 'UPDATE'
      || variables.referencesBefore.filter(r, !(r.?name.orValue('') in {{ $own }}))
      == variables.referencesAfter.filter(r, !(r.?name.orValue('') in {{ $own }}))
    message: in imagePullSecrets, the controller may only add and remove secrets of its own instance
    reason: Forbidden
{{- end }}
