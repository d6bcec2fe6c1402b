# The image of DataMigrate's and DataBackup's work: one program, linked statically (deploy/README.md says how it is
# built), and the authorities that stores on the Internet are trusted by.
FROM debian:trixie-slim AS trusted
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM scratch
COPY --from=trusted /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY headrace-worker /usr/bin/headrace-worker
USER 65532:65532
ENTRYPOINT ["/usr/bin/headrace-worker"]
