{{/* gateway.toml. Texts are written as JSON, which TOML reads as its own. */}}
{{- define "tollgate.settings" -}}
listen = {{ printf "%s:%d" .Values.gateway.listenAddress (int .Values.ports.proxy) | toJson }}
admin_listen = {{ printf "%s:%d" .Values.gateway.listenAddress (int .Values.ports.admin) | toJson }}
unready_seconds = {{ int .Values.gateway.unreadySeconds }}
drain_seconds = {{ int .Values.gateway.drainSeconds }}
{{- with .Values.gateway.adminNames }}
admin_names = {{ toJson . }}
{{- end }}
{{- if .Values.tls.existingSecret }}

[tls]
certificate = "/etc/tollgate-tls/tls.crt"
key = "/etc/tollgate-tls/tls.key"
{{- if .Values.tls.clientCaKey }}
client_ca = {{ printf "/etc/tollgate-tls/%s" .Values.tls.clientCaKey | toJson }}
client_certificates = {{ .Values.tls.clientCertificates | toJson }}
{{- end }}
{{- end }}
{{- if .Values.gateway.recordStoreUrl }}

[records.store]
url = {{ .Values.gateway.recordStoreUrl | toJson }}
{{- with .Values.gateway.recordStoreSettings }}
{{ . | trim }}
{{- end }}
{{- end }}

[vault]
backend = {{ .Values.vault.backend | toJson }}
{{- if eq .Values.vault.backend "kv2" }}
{{ .Values.vault.settings | trim }}
{{- end }}
{{- with .Values.fleet }}
{{- if .enabled }}

[fleet]
redis = {{ .redis | toJson }}
nodes = {{ .nodes | toJson }}
tls = {{ .tls }}
{{- if .existingSecret }}
password_file = {{ printf "/etc/tollgate-redis/%s" .passwordKey | toJson }}
{{- if .caKey }}
ca_file = {{ printf "/etc/tollgate-redis/%s" .caKey | toJson }}
{{- end }}
{{- end }}
shared_dir = "/var/lib/tollgate-shared"
{{- with .settings }}
{{ . | trim }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.gateway.config }}

{{ . | trim }}
{{- end }}

[insecure]
admin_beyond_loopback = true
{{- range $switch, $on := omit .Values.gateway.insecure "admin_beyond_loopback" }}
{{ $switch }} = {{ $on }}
{{- end }}
{{ end -}}
