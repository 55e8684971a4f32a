// The header lines that registry clients send when they pull a manifest, beside Host and Connection, as their sources
// write them.
const TYPES = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
];

export const REGISTRY_CLIENTS: Readonly<Record<string, readonly string[]>> = {
  'docker (graph drivers)': [
    'User-Agent: docker/24.0.7 go/go1.20.10 git-commit/311b9ff kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client/24.0.7 \\(linux\\))',
    ...TYPES.map(type => `Accept: ${type}`),
    'Accept: application/json',
    'Accept-Encoding: gzip',
  ],
  'docker (containerd image store)': [
    'User-Agent: docker/29.0.1 go/go1.25.4 containerd/v2.2.0 os/linux arch/amd64 UpstreamClient(Docker-Client/29.0.1)',
    `Accept: ${TYPES.join(', ')}, */*`,
    'Accept-Encoding: zstd;q=1.0, gzip;q=0.8, deflate;q=0.5',
  ],
  containerd: ['User-Agent: containerd/2.1.4', `Accept: ${TYPES.join(', ')}, */*`, 'Accept-Encoding: gzip'],
  buildkit: ['User-Agent: buildkit/v0.25', `Accept: ${TYPES.join(', ')}, */*`, 'Accept-Encoding: gzip'],
  podman: [
    'User-Agent: containers/5.35.0 (github.com/containers/image)',
    ...TYPES.map(type => `Accept: ${type}`),
    'Docker-Distribution-Api-Version: registry/2.0',
    'Accept-Encoding: gzip',
  ],
  skopeo: [
    'User-Agent: skopeo/1.18.0',
    ...TYPES.map(type => `Accept: ${type}`),
    'Docker-Distribution-Api-Version: registry/2.0',
    'Accept-Encoding: gzip',
  ],
  crane: [
    'User-Agent: crane/v0.20.3 go-containerregistry/v0.20.3',
    `Accept: ${TYPES.join(',')}`,
    'Accept-Encoding: gzip',
  ],
  cosign: [
    'User-Agent: cosign/v3.0.2 (linux; amd64) go-containerregistry/v0.20.6',
    `Accept: ${TYPES.join(',')}`,
    'Accept-Encoding: gzip',
  ],
  oras: ['User-Agent: oras/1.3.0', `Accept: ${TYPES.join(', ')}`, 'Accept-Encoding: gzip'],
  helm: ['User-Agent: Helm/3.19.0', `Accept: ${TYPES.join(', ')}`, 'Accept-Encoding: gzip'],
  curl: ['User-Agent: curl/8.14.1', 'Accept: */*'],
};
