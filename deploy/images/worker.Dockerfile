# The image of DataMigrate's and DataBackup's work: one program, linked statically (deploy/README.md says how it is
# built), and the authorities that stores on the Internet are trusted by.
FROM debian:trixie-slim AS trusted
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM scratch
COPY --from=trusted /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY headrace-worker /usr/bin/headrace-worker
# Files come from, and go to, people's claims: whose they are there is for root to read and to write. A claim's server may
# say otherwise (root_squash), and a namespace too (Pod Security).
ENTRYPOINT ["/usr/bin/headrace-worker"]
