# The operator's image: one program, linked statically (deploy/README.md says how it is built). It speaks with the API
# server and its own agents alone, and is given whom to trust.
FROM scratch
COPY headrace-operator /usr/bin/headrace-operator
USER 65532:65532
ENTRYPOINT ["/usr/bin/headrace-operator"]
