{{- define "tollgate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .Values.userId }}
runAsGroup: {{ .Values.userId }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The template of a gateway's pod, the same for both kinds. */}}
{{- define "tollgate.pod" -}}
metadata:
  labels:
    {{- include "tollgate.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A change of gateway.toml takes effect at a restart, so it makes one.
    checksum/settings: {{ include "tollgate.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tollgate.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ add .Values.gateway.unreadySeconds .Values.gateway.drainSeconds 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .Values.userId }}
    runAsGroup: {{ .Values.userId }}
    fsGroup: {{ .Values.fsGroup }}
    # Otherwise each start would open the keys in the data directory to the group, and they would be refused.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: gateway
      image: {{ include "tollgate.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - name: TOLLGATE_POLICIES
          value: /etc/tollgate
        - name: TOLLGATE_DATA
          value: /var/lib/tollgate/data
        - name: TOLLGATE_LOG
          value: {{ .Values.gateway.logLevel }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: proxy
          containerPort: {{ .Values.ports.proxy }}
        - name: admin
          containerPort: {{ .Values.ports.admin }}
      # A long journal is read before anything is served: two minutes for that.
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- include "tollgate.securityContext" . | nindent 8 }}
      volumeMounts:
        {{- include "tollgate.mounts" . | nindent 8 }}
  volumes:
    {{- include "tollgate.volumes" . | nindent 4 }}
  {{- if .Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "tollgate.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "tollgate.mounts" -}}
- {name: settings, mountPath: /etc/tollgate/gateway.toml, subPath: gateway.toml, readOnly: true}
{{- range list "providers" "tenants" "issuers" }}
- {name: {{ . }}, mountPath: /etc/tollgate/{{ . }}, readOnly: true}
{{- end }}
- {name: data, mountPath: /var/lib/tollgate}
- {name: tmp, mountPath: /tmp}
{{- if .Values.fleet.enabled }}
- {name: shared, mountPath: /var/lib/tollgate-shared{{ if .Values.fleet.shared.existingSecret }}, readOnly: true{{ end }}}
{{- if .Values.fleet.existingSecret }}
- {name: redis, mountPath: /etc/tollgate-redis, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/tollgate-tls, readOnly: true}
{{- end }}
{{- if eq .Values.vault.backend "mounted" }}
{{- range $index, $tenant := keys .Values.vault.secrets | sortAlpha }}
- {name: vault-{{ $index }}, mountPath: {{ printf "/var/run/tollgate/secrets/%s" $tenant | quote }}, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.serviceAccount.mountToken }}
- {name: cluster, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tollgate.volumes" -}}
- name: settings
  configMap:
    name: {{ include "tollgate.fullname" . }}
{{- range $part := list "providers" "tenants" "issuers" }}
- name: {{ $part }}
  projected:
    sources:
      - configMap: {name: {{ include "tollgate.fullname" $ }}-{{ $part }}}
      {{- range get $.Values.policies.configMaps $part }}
      - configMap: {name: {{ . }}}
      {{- end }}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if or (eq .Values.kind "Deployment") (not .Values.persistence.enabled) }}
- name: data
  emptyDir: {sizeLimit: {{ .Values.persistence.ephemeralSize }}}
{{- end }}
{{- if .Values.fleet.enabled }}
- name: shared
  {{- if .Values.fleet.shared.existingSecret }}
  secret:
    secretName: {{ .Values.fleet.shared.existingSecret }}
    defaultMode: 0440
    items:
      - {key: issuer.pem, path: keys/issuer.pem}
      - {key: admins.json, path: keys/admins.json}
      - {key: admin.token, path: keys/admin.token}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ include "tollgate.sharedClaim" . }}
  {{- end }}
{{- if .Values.fleet.existingSecret }}
- name: redis
  secret: {secretName: {{ .Values.fleet.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- if eq .Values.vault.backend "mounted" }}
{{- range $index, $tenant := keys .Values.vault.secrets | sortAlpha }}
- name: vault-{{ $index }}
  secret: {secretName: {{ get $.Values.vault.secrets $tenant }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if .Values.serviceAccount.mountToken }}
- name: cluster
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items:
            - {key: ca.crt, path: ca.crt}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
