// What is known of particular registries beyond the distribution spec.
import { GITHUB_BLOB_HOSTS, GITHUB_CAPABILITIES, isGitHub } from './github/profile.ts';
import { type Capabilities, SPEC_CAPABILITIES } from './upstream.ts';

export interface Profile {
  readonly capabilities: Capabilities;
  /** `host` or `*.suffix` of all hosts that it redirects to; undefined where they are not known. */
  readonly blobHosts: readonly string[] | undefined;
}

/** Counts pulls by GETs of manifests: https://docs.docker.com/docker-hub/usage/pulls/ */
const DOCKER_HUB: Profile = { capabilities: { ...SPEC_CAPABILITIES, countsManifestGets: true }, blobHosts: undefined };

/** Of the upstream of this name at `url`, whose packages are deleted through `api` if it has one. */
export function profileOf(name: string, url: URL, api: URL | undefined): Profile {
  if (isGitHub(name, api)) {
    // A stand-in for ghcr.io has blob hosts of its own.
    const blobHosts = url.host === 'ghcr.io' ? GITHUB_BLOB_HOSTS : undefined;
    return { capabilities: GITHUB_CAPABILITIES, blobHosts };
  }
  if (name === 'docker.io') return DOCKER_HUB;
  return { capabilities: SPEC_CAPABILITIES, blobHosts: undefined };
}
