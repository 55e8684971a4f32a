// Credentials and where their secrets come from: the config file, a file of their own, the environment; the
// docker client has docker.ts. A secret lives in a closure and is handed out by read() alone, so that a
// config that is logged or inspected cannot show it. No error holds one.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Credential } from './schema.ts';
import { ConfigError, fileProblem } from './source.ts';

/** Makes the error of a problem, with the file, line and key that it is about. */
export type Complain = (problem: string) => ConfigError;

/** ghcr.io takes any user name with a token; GitHub itself writes this one where none is known. */
export const ANY_USERNAME = 'x-access-token';

export interface Identity {
  readonly name: string;
  readonly owner: string;
  readonly username: string;
}

/** Throws what `complain` makes when `text` cannot be a secret. */
export function fixedCredential(identity: Identity, text: string, complain: Complain): Credential {
  const secret = secretIn(text, 'the value', complain);
  return { ...identity, read: () => secret };
}

/** The file is read here too, so that a wrong path is found at start and not by the first pull. */
export function fileCredential(identity: Identity, path: string, complain: Complain): Credential {
  const unreadable = (error: unknown) => complain(`${path}: ${fileProblem(error)}`);
  try {
    secretIn(readFileSync(path, 'utf8'), path, complain);
  } catch (error) {
    throw error instanceof ConfigError ? error : unreadable(error);
  }
  return {
    ...identity,
    async read() {
      const text = await readFile(path, 'utf8').catch(error => {
        throw unreadable(error);
      });
      return secretIn(text, path, complain);
    },
  };
}

/** CR_PAT, else GITHUB_TOKEN, as CI sets them; an empty variable counts as unset. */
export function environmentCredentials(env: NodeJS.ProcessEnv): Credential[] {
  const name = ['CR_PAT', 'GITHUB_TOKEN'].find(variable => withoutLineEnd(env[variable] ?? '') !== '');
  if (name === undefined) return [];
  const username = withoutLineEnd(env.GHCR_USERNAME || env.GITHUB_ACTOR || ANY_USERNAME);
  const complain = (problem: string) => new ConfigError(problem, { file: 'environment', key: name });
  return [fixedCredential({ name, owner: '*', username }, env[name] ?? '', complain)];
}

/** The secret that `text`, which errors call `what`, consists of: without the line end that editors and `echo` leave. */
export function secretIn(text: string, what: string, complain: Complain): string {
  const secret = withoutLineEnd(text);
  if (secret === '') throw complain(`${what} is empty`);
  if (/\p{Cc}/u.test(secret)) throw complain(`${what} has a line break or another control character in it`);
  return secret;
}

function withoutLineEnd(text: string): string {
  return text.replace(/[\r\n]+$/, '');
}
