// Where secrets come from: the config itself, a file, the environment; the docker client has docker.ts.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileProblem } from '../base/file-problem.ts';
import type { OwnedCredential } from './credential.ts';

/** Makes the error of a problem, naming the place in the config that it is about. */
export type Complain = (problem: string) => Error;

/** ghcr.io takes any user name with a token; GitHub itself writes this one where none is known. */
export const ANY_USERNAME = 'x-access-token';

export interface Identity {
  readonly name: string;
  readonly owner: string;
  readonly username: string;
}

/** Throws what `complain` makes when `text` cannot be a secret. */
export function fixedCredential(
  { username, ...identity }: Identity,
  text: string,
  complain: Complain,
): OwnedCredential {
  const secret = secretIn(text, 'the value', complain);
  return { ...identity, read: async () => ({ username, secret }) };
}

/** The file is read here too, so that a wrong path is found at start and not by the first pull. */
export function fileCredential(
  { username, ...identity }: Identity,
  path: string,
  complain: Complain,
): OwnedCredential {
  const unreadable = (error: unknown) => complain(`${path}: ${fileProblem(error)}`);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(error);
  }
  secretIn(text, path, complain);
  return {
    ...identity,
    async read() {
      const current = await readFile(path, 'utf8').catch(error => {
        throw unreadable(error);
      });
      return { username, secret: secretIn(current, path, complain) };
    },
  };
}

/** CR_PAT, else GITHUB_TOKEN, as CI sets them; an empty variable counts as unset. */
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
