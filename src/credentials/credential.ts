// The contract of credentials: who we are to an upstream, by repository. A secret lives in a closure and is handed out
// by read() alone, so that whatever holds a credential can be logged or inspected. No error holds a secret.
import { matcherOf } from '../base/glob.ts';
import { ownerOf, type Repository } from '../oci/reference.ts';

export interface Login {
  readonly username: string;
  readonly secret: string;
}

export interface Credential {
  /** What logs and errors call it. */
  readonly name: string;
  /** Reads it again each time from its file or helper, so that rotation works. Throws a sentence when it cannot. */
  read(): Promise<Login>;
}

/** A credential with the glob over repository owners, in lower case, that it is for. */
export interface OwnedCredential extends Credential {
  readonly owner: string;
}

export interface Credentials {
  /** All names, in the order in which they are tried. */
  readonly names: readonly string[];
  /** The credential for this repository; undefined: anonymous. */
  find(repository: Repository): Credential | undefined;
}

/** The first credential whose owner pattern matches the repository's owner is the one. */
export function credentialsOf(credentials: readonly OwnedCredential[]): Credentials {
  const owned = credentials.map(credential => ({ credential, matches: matcherOf(credential.owner) }));
  return {
    names: credentials.map(({ name }) => name),
    find: repository => owned.find(({ matches }) => matches(ownerOf(repository)))?.credential,
  };
}
