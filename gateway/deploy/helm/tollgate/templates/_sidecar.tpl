{{/*
The sidecar, for charts of yours that have this one as a dependency, and for the example here:

  {{ include "tollgate.sidecar" (dict "root" . "native" true) }}    an item of initContainers
  {{ include "tollgate.sidecar" (dict "root" . "native" false) }}   an item of containers
  {{ include "tollgate.sidecar.volumes" (dict "root" .) }}          items of volumes
  {{ include "tollgate.sidecar.env" (dict "root" .) }}              items of the agent's env

`root` has the Values, Chart and Release of this chart.
*/}}
{{- define "tollgate.sidecar" -}}
{{- $values := .root.Values -}}
- name: tollgate
  image: {{ include "tollgate.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  {{- if .native }}
  restartPolicy: Always
  {{- end }}
  args:
    - sidecar
    - --listen=127.0.0.1:{{ $values.sidecar.port }}
    - --subject-token-file=/var/run/secrets/tokens/tollgate
    - --drain-seconds={{ $values.sidecar.drainSeconds }}
    {{- if $values.sidecar.caConfigMap }}
    - --ca=/etc/tollgate-ca/ca.crt
    {{- end }}
  env:
    - name: TOLLGATE_GATEWAY
      value: {{ include "tollgate.sidecar.gateway" .root }}
  # The kubelet's own probes cannot reach a loopback address.
  {{- range list "startupProbe" "readinessProbe" }}
  {{ . }}:
    exec:
      command: [tollgate, sidecar, --probe, "--listen=127.0.0.1:{{ $values.sidecar.port }}"]
    timeoutSeconds: 3
    {{- if eq . "startupProbe" }}
    periodSeconds: 1
    failureThreshold: 60
    {{- else }}
    periodSeconds: 10
    {{- end }}
  {{- end }}
  resources:
    {{- toYaml $values.sidecar.resources | nindent 4 }}
  securityContext:
    {{- include "tollgate.securityContext" .root | nindent 4 }}
  volumeMounts:
    - {name: tollgate-token, mountPath: /var/run/secrets/tokens, readOnly: true}
    {{- if $values.sidecar.caConfigMap }}
    - {name: tollgate-ca, mountPath: /etc/tollgate-ca, readOnly: true}
    {{- end }}
{{- end -}}

{{- define "tollgate.sidecar.gateway" -}}
{{- if .Values.sidecar.gatewayUrl -}}
{{ .Values.sidecar.gatewayUrl }}
{{- else -}}
{{ ternary "https" "http" (not (empty .Values.tls.existingSecret)) }}://{{ include "tollgate.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end -}}
{{- end -}}

{{- define "tollgate.sidecar.volumes" -}}
- name: tollgate-token
  projected:
    sources:
      - serviceAccountToken:
          path: tollgate
          audience: {{ .root.Values.sidecar.audience }}
          expirationSeconds: {{ .root.Values.sidecar.tokenSeconds }}
{{- with .root.Values.sidecar.caConfigMap }}
- name: tollgate-ca
  configMap: {name: {{ . }}}
{{- end }}
{{- end -}}

{{- define "tollgate.sidecar.env" -}}
{{- $url := printf "http://127.0.0.1:%d" (int .root.Values.sidecar.port) -}}
- {name: OPENAI_BASE_URL, value: {{ $url }}/openai/v1}
- {name: ANTHROPIC_BASE_URL, value: {{ $url }}/anthropic}
{{- end -}}
