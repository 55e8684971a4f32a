// What a request needs to be allowed to do, in the words of the Docker token specification.
import { ownerOf, type Repository } from '../../oci/reference.ts';

export interface Access {
  readonly actions: 'pull' | 'pull,push' | '*';
  /** The name of another repository that is read from as well, for a mount. */
  readonly from?: string | undefined;
}

// Pulls ask for pull alone: ghcr.io denies anonymous requests for more, even where pulling is free.
export const PULL: Access = { actions: 'pull' };
export const PUSH: Access = { actions: 'pull,push' };
/** Registries differ in what they call this action; all understand the star. */
export const DELETE: Access = { actions: '*' };

/** The scope of a GitHub personal access token that each of them takes. */
export const PAT_SCOPES: Readonly<Record<Access['actions'], string>> = {
  pull: 'read:packages',
  'pull,push': 'write:packages',
  '*': 'delete:packages',
};

/** The scopes of a token request, one for each repository. */
export function scopesOf({ name }: Repository, { actions, from }: Access): string[] {
  const scope = `repository:${name}:${actions}`;
  return from === undefined ? [scope] : [scope, `repository:${from}:pull`];
}

/** That no credential is for the repository's owner, and how to add one, for the end of a sentence. */
export function lacksCredential(repository: Repository): string {
  const { upstream } = repository;
  const owner = ownerOf(repository);
  const key = `upstreams: { ${upstream}: { credentials: [{ owner: ${owner}, username: …, token: … }] } }`;
  const environment = ', or, with no credentials there, by the environment: CR_PAT=… GHCR_USERNAME=…';
  return (
    `no credential of the config is for owner "${owner}": add one, by the key ${key}` +
    (upstream === 'ghcr.io' ? environment : '')
  );
}
