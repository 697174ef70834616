# The images of Omni Secrets. Built with BuildKit, the default of Docker 23 and later; DOCKER_BUILDKIT=1 before.
#
#   docker build --target omni-secrets --build-arg VERSION=v1.2.3 --build-arg REVISION=$(git rev-parse HEAD) -t omni-secrets:v1.2.3 .
#   docker build --target gsm-emulator -t gsm-emulator .
#
# Behind a module proxy of your own, pass GOPROXY, GOSUMDB and the like as build arguments.
#
# The same source, Go version, VERSION and REVISION give the same programs, byte for byte. For images that are the same to the
# byte too, let Buildx rewrite the directories' times: SOURCE_DATE_EPOCH=0 and --output type=image,rewrite-timestamp=true.

FROM golang:1.26 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local

COPY . .
ARG GOPROXY GOSUMDB GONOSUMDB GOPRIVATE
ARG VERSION=dev
# The commit. The builder has no repository to find it in (.dockerignore); without it /version and omni_build_info have none.
ARG REVISION=""
# Modules and compiled packages stay in the builder's cache; nothing but what the programs need is fetched.
# /layout is the file systems of the images. The journal's directory is there so that a new volume takes on its
# owner: 65532 is nonroot.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    set -eu; \
    go build -trimpath -ldflags "-s -w -buildid= -X main.version=$VERSION -X main.revision=$REVISION" \
        -o /layout/bin/ ./cmd/omni-secrets ./cmd/gsm-emulator; \
    install -d -m 0700 /layout/journal; \
    find /layout -exec touch -h -d @0 {} +

FROM gcr.io/distroless/static-debian12:nonroot AS gsm-emulator
COPY --from=build /layout/bin/gsm-emulator /usr/local/bin/gsm-emulator
USER 65532:65532
ENV OMNI_EMULATOR_LISTEN=0.0.0.0:9085 OMNI_EMULATOR_CONTROL=0.0.0.0:9086
EXPOSE 9085 9086
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 \
    CMD ["/usr/local/bin/gsm-emulator", "--health", "http://127.0.0.1:9086"]
ENTRYPOINT ["/usr/local/bin/gsm-emulator"]

FROM gcr.io/distroless/static-debian12:nonroot AS omni-secrets
ARG VERSION=dev
ARG REVISION=""
LABEL org.opencontainers.image.title="omni-secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /layout/bin/omni-secrets /usr/local/bin/omni-secrets
COPY --from=build --chown=65532:65532 /layout/journal /var/lib/omni-secrets/audit-journal
USER 65532:65532
ENV OMNI_LISTEN=0.0.0.0:8080 OMNI_AUDIT_JOURNAL_DIR=/var/lib/omni-secrets/audit-journal
EXPOSE 8080
VOLUME /var/lib/omni-secrets/audit-journal
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/omni-secrets", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/omni-secrets"]
CMD ["serve"]
