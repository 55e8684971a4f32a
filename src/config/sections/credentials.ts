// `upstreams.<host>.credentials`: who we are to an upstream. Secrets go into closures here, and come out by
// Credential.read alone. No error quotes one, nor anything that stands where one may have been written by mistake.
import { z } from 'zod';
import type { OwnedCredential } from '../../credentials/credential.ts';
import { dockerCredential } from '../../credentials/docker.ts';
import { ghCredential } from '../../credentials/gh.ts';
import { ANY_USERNAME, environmentCredentials, fileCredential, fixedCredential } from '../../credentials/sources.ts';
import { GHCR } from '../host.ts';
import { ConfigError, type KeyPath, type Source } from '../source.ts';
import * as value from '../values.ts';

const credential = value.section({
  /** What logs and errors call it. */
  name: value.text('a name').exactOptional(),
  /** A glob over the owner of a repository. */
  owner: value.ownerGlob.prefault('*'),
  username: value.username.exactOptional(),
  /** Exactly one of these two. */
  token: value.secret.exactOptional(),
  tokenFile: value.path.exactOptional(),
});

/** The words, also as items: what `docker login` stored, and the login of gh. */
export const credentials = z
  .preprocess(
    input => (input === 'docker' || input === 'gh' ? [input] : input),
    value.list(
      z.union([z.enum(['docker', 'gh']), credential]),
      'is not a list of credentials, nor the word docker or gh',
    ),
  )
  .exactOptional();

/** Those of `host`; where nothing is written about ghcr.io, from the environment. Throws ConfigError. */
export function checkCredentials(
  host: string,
  { credentials: written, api }: { credentials?: z.output<typeof credentials> | undefined; api: URL | undefined },
  source: Source,
): readonly OwnedCredential[] {
  if (written === undefined) {
    const complain = (key: string, problem: string) => new ConfigError(problem, { file: 'environment', key });
    return host === GHCR ? environmentCredentials(source.env, complain) : [];
  }
  const names = new Set<string>();
  return written.map((item, i) => {
    const keys = ['upstreams', host, 'credentials', i];
    const made = madeOf(host, item, api, keys, source);
    if (names.has(made.name))
      throw source.error(keys, `two credentials are named ${made.name}; logs could not tell them apart`);
    names.add(made.name);
    return made;
  });
}

function madeOf(
  host: string,
  item: NonNullable<z.output<typeof credentials>>[number],
  api: URL | undefined,
  keys: KeyPath,
  source: Source,
): OwnedCredential {
  const complain = (problem: string) => source.error(keys, problem);
  if (item === 'docker') return dockerCredential(host, source.env, complain);
  if (item !== 'gh') return writtenCredential(host, item, keys, source);
  if (api === undefined) throw complain(`gh has logins to GitHub alone, and ${host} has no "api", which GitHub has`);
  return ghCredential(api, source.env, complain);
}

function writtenCredential(
  host: string,
  { name, owner, username, token, tokenFile }: z.output<typeof credential>,
  keys: KeyPath,
  source: Source,
): OwnedCredential {
  if (username === undefined && host !== GHCR) throw source.error([...keys, 'username'], 'missing');
  if (token !== undefined && tokenFile !== undefined)
    throw source.error(keys, 'token and tokenFile are mutually exclusive');
  const identity = { name: name ?? `credential ${Number(keys.at(-1)) + 1}`, owner, username: username ?? ANY_USERNAME };
  const complain = (key: string) => (problem: string) => source.error([...keys, key], problem);
  if (token !== undefined) return fixedCredential(identity, token, complain('token'));
  if (tokenFile !== undefined) return fileCredential(identity, source.resolve(tokenFile), complain('tokenFile'));
  throw source.error(keys, 'a credential needs a token or a tokenFile');
}
