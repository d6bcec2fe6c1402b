# The agent's image: one program, linked statically (deploy/README.md says how it is built).
FROM scratch
COPY headrace /usr/bin/headrace
ENTRYPOINT ["/usr/bin/headrace"]
