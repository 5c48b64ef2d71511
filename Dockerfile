# visitd as one image with three entry points: visit-frontend (unless another is named), visit-flusher, visitctl. docs/containers.md
ARG DEBIAN=13

FROM debian:${DEBIAN}-slim AS build
WORKDIR /src
# The list first: as long as it stays, the packages are not installed anew.
COPY deploy/packages deploy/packages
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(awk '!/^#/ && $2 == "build" {print $1}' deploy/packages)
COPY . .
RUN meson setup /build --buildtype=release -Doptimization=2 -Dwerror=false -Dtests=false
RUN ninja -C /build
RUN deploy/container/image-tree /build /image

FROM scratch
COPY --from=build /image/etc /etc
COPY --from=build /image/lib /lib
COPY --from=build /image/lib64 /lib64
COPY --from=build /image/usr /usr
# Owners are said here too: not every builder keeps those of another stage.
COPY --from=build --chown=0:6400 /image/run /run
COPY --from=build --chown=6402:6400 /image/var/lib /var/lib
ENV PATH=/usr/bin
USER 6401:6400
EXPOSE 8000
CMD ["visit-frontend"]
