{{- /* One release's image: agent, operator or worker. */}}
{{- define "headrace.image" -}}
{{ printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
{{- end }}
