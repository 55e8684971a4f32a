// Where secrets come from: the config itself, a file, or the environment; for the docker client see docker.ts.
import { readFileSync } from 'node:fs';
import { fileProblem } from '../base/file-problem.ts';
import type { OwnedCredential } from './credential.ts';

/** Makes the error for a problem, naming the place in the config where it is. */
export type Complain = (problem: string) => Error;

/** ghcr.io accepts any user name with a token; this is what GitHub itself writes where none is known. */
export const ANY_USERNAME = 'x-access-token';

export interface Identity {
  readonly name: string;
  readonly owner: string;
  readonly username: string;
}

/** A secret that the config holds itself. Throws what `complain` makes when `text` cannot be one. */
export function fixedCredential(
  { username, ...identity }: Identity,
  text: string,
  complain: Complain,
): OwnedCredential {
  const secret = secretIn(text, 'the value', complain);
  return { ...identity, read: async () => ({ username, secret }) };
}

/** A secret in a file, which is also read at once, so that a wrong path is found at start and not by the first pull. */
export function fileCredential({ username, ...identity }: Identity, path: string, complain: Complain): OwnedCredential {
  const readSecret = () => {
    const text = readText(path, problem => complain(`${path}: ${problem}`));
    return secretIn(text, path, complain);
  };
  readSecret();
  return { ...identity, read: async () => ({ username, secret: readSecret() }) };
}

/** The text of a file, which is small and read seldom: at start, and before a request for a token. */
export function readText(path: string, complain: Complain): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw complain(fileProblem(error));
  }
}

/** CR_PAT, else GITHUB_TOKEN, as CI sets them; an empty variable counts as not set. */
export function environmentCredentials(
  env: NodeJS.ProcessEnv,
  complain: (variable: string, problem: string) => Error,
): OwnedCredential[] {
  const name = ['CR_PAT', 'GITHUB_TOKEN'].find(variable => withoutLineEnd(env[variable] ?? '') !== '');
  if (name === undefined) return [];
  const username = withoutLineEnd(env.GHCR_USERNAME || env.GITHUB_ACTOR || ANY_USERNAME);
  const identity = { name, owner: '*', username };
  return [fixedCredential(identity, env[name] ?? '', problem => complain(name, problem))];
}

/** `text` without the line end that editors and `echo` leave. Throws, calling it `what`, when it cannot be a secret. */
export function secretIn(text: string, what: string, complain: Complain): string {
  const secret = withoutLineEnd(text);
  if (secret === '') throw complain(`${what} is empty`);
  if (/\p{Cc}/u.test(secret)) throw complain(`${what} has a line break or another control character in it`);
  return secret;
}

function withoutLineEnd(text: string): string {
  return text.replace(/[\r\n]+$/, '');
}
