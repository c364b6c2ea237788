{{- define "tollgate.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What the pods of the gateway are told by. `tollgate k8s tenant` selects them by name and component. */}}
{{- define "tollgate.selector" -}}
app.kubernetes.io/name: tollgate
app.kubernetes.io/component: gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tollgate.metadata" -}}
name: {{ include "tollgate.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "tollgate.labels" . | nindent 2 }}
{{- end -}}

{{- define "tollgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "tollgate.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "tollgate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tollgate.severalReplicas" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}yes{{ end -}}
{{- end -}}

{{- define "tollgate.sharedClaim" -}}
{{- .Values.fleet.shared.existingClaim | default (printf "%s-shared" (include "tollgate.fullname" .)) -}}
{{- end -}}

{{/* Fails with a sentence where values contradict one another. */}}
{{- define "tollgate.guard" -}}
{{- $fleet := .Values.fleet -}}
{{- if and (include "tollgate.severalReplicas" .) (not $fleet.enabled) -}}
{{- fail "More than one replica needs fleet.enabled: gateways without it share neither caps nor tokens." -}}
{{- end -}}
{{- if and (eq .Values.kind "Deployment") (not $fleet.enabled) -}}
{{- fail "kind: Deployment needs fleet.enabled: an update runs two gateways at once, and without it they share neither caps nor tokens." -}}
{{- end -}}
{{- if and (eq .Values.kind "Deployment") (not .Values.gateway.recordStoreUrl) -}}
{{- fail "kind: Deployment needs gateway.recordStoreUrl: its pods lose their disks, and the records on them with it. Use kind: StatefulSet to keep them." -}}
{{- end -}}
{{- if $fleet.enabled -}}
{{- if not $fleet.nodes -}}
{{- fail "fleet.enabled needs fleet.nodes, such as [redis:6379]." -}}
{{- end -}}
{{- if not (or $fleet.tls .Values.gateway.insecure.plain_redis) -}}
{{- fail "fleet.tls: false sends passwords and tokens in clear; say gateway.insecure.plain_redis: true if that is meant." -}}
{{- end -}}
{{- if and (eq .Values.vault.backend "age") $fleet.shared.existingSecret -}}
{{- fail "vault.backend: age writes into the shared directory, which fleet.shared.existingSecret cannot take; use a claim." -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.vault.backend "kv2") (not .Values.vault.settings) -}}
{{- fail "vault.backend: kv2 needs vault.settings: the address of the server and how to log in." -}}
{{- end -}}
{{- if and .Values.serviceAccount.issuerDiscovery (not .Values.serviceAccount.mountToken) -}}
{{- fail "serviceAccount.issuerDiscovery needs serviceAccount.mountToken." -}}
{{- end -}}
{{- end -}}
