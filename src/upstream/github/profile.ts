// What GitHub's registries do beyond, or otherwise than, the distribution spec.
import type { Capabilities } from '../upstream.ts';

export const GITHUB_CAPABILITIES: Capabilities = {
  // https://docs.github.com/en/packages/learn-github-packages/connecting-a-repository-to-a-package
  linksBySourceLabel: true,
  // Its registry deletes nothing; its API deletes versions, which are manifests with all their tags (packages.ts).
  deletesWholeVersions: true,
  countsManifestGets: false,
};

/** Where ghcr.io redirects pulls of blobs to. */
export const GITHUB_BLOB_HOSTS: readonly string[] = ['*.githubusercontent.com'];

/** Whether the images of an upstream are GitHub packages: at ghcr.io, and where the config names GitHub's API. */
export function isGitHub(name: string, api: URL | undefined): boolean {
  return name === 'ghcr.io' || api !== undefined;
}
