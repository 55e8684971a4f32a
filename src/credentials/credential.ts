// The contract of credentials: who we are to an upstream, by repository. A secret lives in a closure and is handed out by
// read() alone, so that anything that holds a credential can be logged or inspected. No error holds a secret.
import { matcherOf } from '../base/glob.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { ownerOf, type Repository } from '../oci/reference.ts';

export interface Login {
  readonly username: string;
  readonly secret: string;
}

export interface Credential {
  /** What logs and errors call it. */
  readonly name: string;
  /** Reads it from its file or helper each time, so that rotation works. Throws a sentence when it cannot. */
  read(): Promise<Login>;
}

/** A credential and the repository owners that it is for: a glob, in lower case. */
export interface OwnedCredential extends Credential {
  readonly owner: string;
}

export interface Credentials {
  /** The credential for this repository; undefined: anonymous. */
  find(repository: Repository): Credential | undefined;
  /** Calls back whenever others may be found than before. */
  onChange(listener: () => void): void;
}

/** The first credential whose owner pattern matches the repository's owner is used. */
export function credentialsOf(credentials: readonly OwnedCredential[]): Credentials {
  return changingCredentials(
    () => credentials,
    () => {},
  );
}

/** The same of credentials that change. `onChange` calls back after each change of what `list` gives. */
export function changingCredentials(
  list: () => readonly OwnedCredential[],
  onChange: Credentials['onChange'],
): Credentials {
  const withMatchers = () => list().map(credential => ({ credential, matches: matcherOf(credential.owner) }));
  let owned = withMatchers();
  // Before any listener of ours.
  onChange(() => {
    owned = withMatchers();
  });
  return {
    find: repository => owned.find(({ matches }) => matches(ownerOf(repository)))?.credential,
    onChange,
  };
}

/** Reads a credential for a request. Throws DENIED, naming it, when it cannot be read. */
export async function readLogin(credential: Credential): Promise<Login> {
  return credential.read().catch(cause => {
    throw new RegistryError('DENIED', `credential "${credential.name}" cannot be read: ${reasonOf(cause)}`, {
      ...{ cause, detail: { credential: credential.name } },
    });
  });
}
